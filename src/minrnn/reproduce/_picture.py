"""What the experiments' pictures are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib

from ._judging import mean

COLOURS = [matplotlib.colormaps["tab20"](2 * index % 20 + index // 10) for index in range(20)]


def dots(axes: Any, groups: Mapping[str, Sequence[float]], label: str) -> None:
    """One row for each model, a dot for each seed; a row without dots where a model has none."""
    for row, values in enumerate(groups.values()):
        colour = COLOURS[row % 20]
        if values:
            axes.plot([min(values), max(values)], [row, row], color=colour, linewidth=2, alpha=0.4)
        axes.plot(values, [row] * len(values), "o", color=colour, markersize=5)
    axes.set_yticks(range(len(groups)), list(groups), fontsize=8)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlabel(label, fontsize=8)
    axes.grid(axis="x", alpha=0.3)


def lines(
    axes: Any,
    groups: Mapping[str, Sequence[Sequence[float]]],
    at: Sequence[Any],
    x_label: str,
    y_label: str,
    *,
    log: str = "",
    middle: Callable[[Sequence[float]], float] = mean,
) -> None:
    """One line for each model through the middle of its seeds, with their range behind it."""
    places = list(range(len(at))) if isinstance(at[0], str) else list(at)
    for index, (name, points) in enumerate(groups.items()):
        xs = places[: len(points)]
        colour = COLOURS[index % 20]
        axes.plot(xs, [middle(seeds) for seeds in points], "o-", color=colour, label=name, markersize=4, linewidth=1.5)
        if any(len(seeds) > 1 for seeds in points):
            low, high = [min(seeds) for seeds in points], [max(seeds) for seeds in points]
            axes.fill_between(xs, low, high, color=colour, alpha=0.12, linewidth=0)
    if isinstance(at[0], str):
        axes.set_xticks(places, at)
    if "x" in log:
        axes.set_xscale("log", base=2)
    if "y" in log:
        axes.set_yscale("log")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
