"""minrnn predict"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from ._parse import parse


@dataclass(frozen=True)
class PredictOptions:
    """Answer for the series of a file: their classes, numbers or next steps.

    Example:  minrnn predict runs/gestures --data new.csv --out answers.csv

    The file is read as the one of training was; labels that it has are not looked at.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder that minrnn train --task wrote."""
    data: str
    """File of the series."""
    out: str = ""
    """File to write, .csv or .parquet; by default CSV on stdout."""


def main(arguments: Sequence[str]) -> int:
    """Write a table with a row for each series or, of forecasts, for each step."""
    options = parse(PredictOptions, "predict", arguments)

    from ._series import predict

    return predict(options.run, options.data, options.out)
