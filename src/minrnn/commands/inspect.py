"""minrnn inspect"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from minrnn.errors import UserError

from ._parse import parse
from ._table import aligned

if TYPE_CHECKING:
    from torch import nn

    from minrnn.inspection import Layer

SEQUENCES = 8
STEPS = 256
LEVELS = (10, 50, 90)


@dataclass(frozen=True)
class InspectOptions:
    """Look inside a trained model: its parameters and, on a sample, how long each layer remembers.

    Example:  minrnn inspect runs/shakespeare --out shakespeare.html

    A step keeps a share of each number of a layer's state, 1 - z of minGRU. The table has its half-life in steps (of
    the numbers that forget soonest, of the median, of those that remember longest), how often the share is below 0.05
    (forgets) or above 0.95 (keeps), and how large the state is at the start and at the end of the sample.
    """

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Run folder that minrnn train wrote."""
    data: str = ""
    """What to read as a sample, as for minrnn train; by default what the run was trained on."""
    out: str = ""
    """File (.html) for a page with all of it, with pictures and the training curve."""
    json: bool = False
    """Print one line of JSON."""


@dataclass(frozen=True)
class Seen:
    """What there is to say of a run."""

    kind: str
    network: nn.Module
    layers: list[Layer]
    sample: str
    curve: bytes | None  # a picture (PNG)


def main(arguments: Sequence[str]) -> int:
    """Print two tables, and write the page."""
    options = parse(InspectOptions, "inspect", arguments)
    if options.out and Path(options.out).suffix != ".html":
        raise UserError(f"--out is {options.out}; expected a .html file")

    from minrnn.training._files import write_text
    from minrnn.training._folder import is_of_series

    seen = (_of_series if is_of_series(options.run) else _of_text)(options.run, options.data)
    parameters = _parameters(seen.network)
    total = sum(parameters.values())
    rows = [["part", "parameters", "share"]]
    rows += [[name, f"{count:,}", f"{count / total:.1%}"] for name, count in parameters.items()]
    memory = [_figures(layer) for layer in seen.layers]
    head = ["layer", "state", *(f"half-life {level} %" for level in LEVELS), "forgets", "keeps", "size, first", "last"]
    table = [head, *(_row(figures) for figures in memory)] if memory else [[]]
    opening = f"{seen.kind}, {total:,} parameters"
    nothing = "No mixer of this model has a state that decays."
    if options.json:
        print(json.dumps({"kind": seen.kind, "parameters": parameters, "memory": memory}))
    else:
        print(f"{options.run}: {opening}\n\n{aligned(rows)}\n\nwhat it keeps of {seen.sample}:")
        print(aligned(table) if memory else nothing)
    if options.out:
        from matplotlib.figure import Figure

        from minrnn.inspection import page
        from minrnn.inspection._page import draw_memory, png

        sections: list[tuple[str, str, Any]] = [("Parameters", f"{total:,} in all.", rows)]
        if seen.curve is not None:
            sections.append(("Training", "The loss at each step.", seen.curve))
        sections.append(("Memory", f"Of {seen.sample}." if memory else nothing, table))
        if memory:
            figure = Figure(figsize=(13, 4.2), layout="constrained")
            draw_memory(figure, seen.layers)
            sections.append(("Time constants, gates and states", "Of the same sample.", png(figure)))
        write_text(Path(options.out), page(Path(options.run).resolve().name, opening, sections))
        if not options.json:
            print(f"\nall of it, with pictures, is in {options.out}")
    return 0


def _of_text(folder: str, source: str) -> Seen:
    import torch

    from minrnn.data import load_text
    from minrnn.inspection import watching
    from minrnn.training import load_run
    from minrnn.training._folder import RunFolder

    run = load_run(folder)
    text = load_text(source or run.config.data, tokens=run.config.tokens)
    ids = torch.as_tensor(run.tokenizer.encode(text.held_out[: 64 * SEQUENCES * STEPS])).long()
    B = min(SEQUENCES, max(1, len(ids) // STEPS))
    tokens = ids[: B * STEPS].view(B, -1)
    with torch.no_grad(), watching(run.model) as layers:
        run.model(tokens)
    curve = RunFolder(Path(folder)).curve
    sample = f"{B} pieces of {tokens.shape[1]} tokens of {source or run.config.data}"
    return Seen(
        f"language model of {run.config.pattern}, width {run.config.width}",
        run.model,
        layers,
        sample,
        curve.read_bytes() if curve.is_file() else None,
    )


def _of_series(folder: str, source: str) -> Seen:
    from minrnn.inspection import watching
    from minrnn.series._saving import task_of

    from ._series import of_run
    from ._series_tasks import one_line

    estimator, data = of_run(folder, source, labels=False)
    with one_line(), watching(estimator.network_) as layers:
        sample = data.read_some(estimator, SEQUENCES, STEPS)
    ends = ", then the same from the end" if getattr(estimator, "bidirectional", False) else ""
    kind = f"{task_of(estimator)}, {estimator.layers} x {estimator.mixer}{ends}, width {estimator.width}"
    return Seen(kind, estimator.network_, layers, sample, _curve(estimator.curve_))


def _curve(curve: Sequence[dict[str, float]]) -> bytes:
    """The losses of a fit."""
    from matplotlib.figure import Figure

    from minrnn.inspection._page import png

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, label in (("loss", "training, one update"), ("held_out", "held out")):
        points = [(point["step"], point[name]) for point in curve if name in point]
        if points:
            axes.plot(*zip(*points, strict=True), "o-", markersize=4, label=label)
    axes.set(xlabel="step", ylabel="loss")
    axes.grid(alpha=0.3)
    axes.legend()
    return png(figure)


def _parameters(network: nn.Module) -> dict[str, int]:
    """How many each part has; the parts of a block are those that it names."""
    counts: dict[str, int] = {}
    for name, parameter in network.named_parameters():
        words = name.split(".")
        depth = words.index("blocks") + 3 if "blocks" in words else 1
        part = ".".join(words[: min(depth, len(words) - 1)])
        counts[part] = counts.get(part, 0) + parameter.numel()
    return counts


def _figures(layer: Layer) -> dict[str, Any]:
    """As JSON has them: a half-life without end is null."""
    import torch

    levels = torch.tensor(LEVELS) / 100
    half_lives = layer.half_lives().quantile(levels, interpolation="lower").tolist()
    return {
        "layer": layer.name,
        "state": layer.state,
        "half_lives": [None if value == float("inf") else value for value in half_lives],
        "forgets": layer.forgets,
        "keeps": layer.keeps,
        "size_first": layer.sizes[0].item(),
        "size_last": layer.sizes[-1].item(),
    }


def _row(figures: dict[str, Any]) -> list[str]:
    return [
        figures["layer"],
        figures["state"],
        *("no end" if value is None else f"{value:.3g}" for value in figures["half_lives"]),
        *(f"{figures[name]:.1%}" for name in ("forgets", "keeps")),
        *(f"{figures[name]:.3g}" for name in ("size_first", "size_last")),
    ]
