"""minrnn stream"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from minrnn.errors import UserError

from ._lines import read_lines
from ._parse import parse
from ._signals import end_on_signals


@dataclass(frozen=True)
class StreamOptions:
    """Answer each line of standard input at once, in a line of JSON on standard output.

    Example:  tail -f load.log | minrnn stream runs/load --state load.safetensors

    For a run on series a line has the values of one step, one for each channel, with commas or spaces between them
    (nan where one is missing), and at its end, of a run trained with --irregular, the time (of dates in seconds). For a
    run on text a line is the next line of the text.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder that minrnn train wrote."""
    state: str = ""
    """File of the state: gone on from if it is there, and written when the input ends or a signal comes."""


def main(arguments: Sequence[str]) -> int:
    """Answer until the input ends."""
    options = parse(StreamOptions, "stream", arguments)

    from minrnn.streaming import stream
    from minrnn.training._folder import is_of_series

    answers = stream(options.run)
    if options.state and Path(options.state).exists():
        answers.restore(options.state)
    if options.state:
        answers.save(options.state)  # so that hours of values are not read for a file that cannot be written
    series = is_of_series(options.run)
    end_on_signals()
    try:
        for number, line in enumerate(read_lines("-"), 1):
            try:
                answer = answers.push(_values(line) if series else line)
            except ValueError as error:
                raise UserError(f"line {number}: {error}") from None
            print(json.dumps(_plain(answer._asdict())), flush=True)
    finally:
        if options.state:
            answers.save(options.state)
    return 0


def _values(line: str) -> list[float]:
    words = line.replace(",", " ").split()
    try:
        return [float(word) for word in words]
    except ValueError:
        raise ValueError(f"{line.strip()!r} are no numbers; expected one for each channel, nan if missing") from None


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) and math.isfinite(value) else value
