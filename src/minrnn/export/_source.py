"""What there is to export in a run, whatever its task."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from minrnn.errors import UserError

from ..training._folder import is_of_series
from ._ports import Graph

Arrays = dict[str, np.ndarray]
Run = Callable[[Arrays], Arrays]
"""A graph: arrays by the names of its inputs -> arrays by the names of its outputs. States that are left out begin."""


class Source(Protocol):
    """A trained network and what is known of it."""

    task: str

    def graphs(self, *, exported: bool) -> dict[str, Graph]:
        """By name: sequence, and step where the network reads step by step. As they are run here, or for export."""

    def record(self) -> dict[str, Any]:
        """What model.json says of the run."""

    def files(self) -> dict[str, Path]:
        """What is copied beside the graphs, by the names it has there: an example that uses them."""

    def vocabulary(self) -> dict[str, Any] | None:
        """The record of the tokenizer, where there is one."""

    def random(self, rng: np.random.Generator, B: int, T: int) -> Arrays:
        """Inputs of the sequence graph."""

    def score(self, sequence: Run, held_out: Any) -> tuple[str, float]:
        """How well a sequence graph does on what was held out: what is measured, and the figure."""

    def invented(self) -> Any:
        """Something like what was held out, where that is not at hand, and in words what it is."""


@runtime_checkable
class Stepwise(Source, Protocol):
    """One whose network may read step by step."""

    def step_through(self, step: Run, inputs: Arrays) -> Arrays:
        """What the sequence graph answers to `inputs`, from the step graph."""


def source_of(folder: str | os.PathLike[str]) -> Source:
    """What a run folder holds. Raises UserError where there is no run, or one that cannot be exported."""
    if not is_of_series(str(folder)):
        from ..training import load_run
        from ._text import Text

        return Text(load_run(folder))
    try:
        from ..series import MinRNNForecaster, load_estimator
    except ImportError as error:
        raise UserError(str(error)) from None
    from ._forecast import Forecast
    from ._label import Label

    estimator = load_estimator(folder)
    return Forecast(estimator) if isinstance(estimator, MinRNNForecaster) else Label(estimator)
