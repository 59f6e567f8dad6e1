"""Whether exported graphs answer as the network does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minrnn.errors import UserError

from ._source import Arrays, Run, Source, Stepwise
from ._traced import eager

SIZES = ((1, 1), (3, 1), (3, 7), (1, 300), (3, 200))  # B, T
STEPS = (3, 60)
ALLOWED = 1e-4


@dataclass(frozen=True)
class Check:
    """The largest differences found: of answers, and of states as shares of the largest number where that is above 1.

    Attributes:
        sequence: of the sequence graph from torch; None where there is none.
        step: of the step graph, over a sequence, from the sequence graph, or from torch where there is none; None where
            there is no step graph.
    """

    sequence: float | None
    step: float | None

    @property
    def largest(self) -> float:
        return _largest(found for found in (self.sequence, self.step) if found is not None)

    def record(self) -> dict[str, Any]:
        """What model.json says of it."""
        compared = "step from torch" if self.sequence is None else "sequence from torch, and of step from sequence"
        meaning = f"largest difference of {compared}, on random input"
        return {"sequence": self.sequence, "step": self.step, "meaning": meaning}


def check(source: Source, runs: dict[str, Run]) -> Check:
    """Compare graphs that were written with torch, and with each other, on random input.

    Raises UserError where they differ by more than 1e-4.
    """
    own = source.graphs(exported=False)
    unit, reference, rng = own["sequence"].unit, eager(own["sequence"]), np.random.default_rng(0)
    sequence = step = None
    if "sequence" in runs:
        given = [source.random(rng, *size) for size in SIZES]
        sequence = _largest(_difference(runs["sequence"](inputs), reference(inputs), unit) for inputs in given)
        reference = runs["sequence"]
    if "step" in runs and isinstance(source, Stepwise):
        inputs = source.random(rng, *STEPS)
        step = _difference(source.step_through(runs["step"], inputs), reference(inputs), unit)
    found = Check(sequence, step)
    if not found.largest <= ALLOWED:
        raise UserError(
            f"the graphs answer differently from the run: by {found.largest:.2g}, where {ALLOWED:g} is allowed; "
            "nothing was written; please report it with the pattern of the run"
        )
    return found


def _difference(found: Arrays, expected: Arrays, unit: np.ndarray | float) -> float:
    """The largest of all outputs that both have; of the answers, which come first, in their unit."""
    differences = []
    for index, name in enumerate(expected):
        if name not in found or not expected[name].size:
            continue
        a, b = found[name].astype(np.float64), expected[name].astype(np.float64)
        of = unit if index == 0 else max(1.0, float(np.abs(b).max()))
        differences.append(float(np.abs((a - b) / of).max()))
    return _largest(differences)


def _largest(differences: Iterable[float]) -> float:
    return float(np.max(list(differences)))  # NaN where one is NaN, which max would lose
