"""The words of the verdict rules, and figures as the report writes them."""

from __future__ import annotations

from collections.abc import Sequence

from ._experiment import Answer

SOLVED = 0.99
SET = 3
"""Seeds in a set: where the first contradicts the paper a second one is run."""


def solved(scores: Sequence[float]) -> bool:
    """At least 99 % on at least two of three seeds."""
    return 3 * sum(score >= SOLVED for score in scores) >= 2 * len(scores)


def better(scores: Sequence[float], others: Sequence[float]) -> bool:
    """Higher, without overlap of the seeds, in each set that both have: ranges of six are wider than of three."""
    return all(min(one) > max(other) for one, other in zip(in_sets(scores), in_sets(others), strict=False))


def in_sets(values: Sequence[float]) -> list[Sequence[float]]:
    """The seeds of each set."""
    return [values[start : start + SET] for start in range(0, len(values), SET)]


def matches(scores: Sequence[float], others: Sequence[float], margin: float) -> bool:
    """Means at most `margin` apart."""
    return abs(mean(scores) - mean(others)) <= margin


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def answer(*, holds: bool, in_part: bool) -> Answer:
    """The words of a verdict."""
    return "holds" if holds else "holds in part" if in_part else "does not hold"


def percent(scores: Sequence[float]) -> str:
    """Mean and range in percent: `97.1 (95.0 to 99.2)`."""
    return spread([100 * score for score in scores], 1)


def spread(values: Sequence[float], digits: int) -> str:
    """Mean and range."""
    if len(values) == 1:
        return f"{values[0]:,.{digits}f}"
    return f"{mean(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


def seeds_solved(scores: Sequence[float]) -> str:
    """`2/3`."""
    return f"{sum(score >= SOLVED for score in scores)}/{len(scores)}"
