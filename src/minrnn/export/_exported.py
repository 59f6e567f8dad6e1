"""What exports of all formats have in common: an example of a graph's inputs, and the files beside the graphs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minrnn.errors import UserError

from .. import __version__
from ..training._files import write_json, writing
from ._check import Check
from ._places import MARK, files_in
from ._ports import Graph
from ._source import Arrays, Source

Busy = Callable[[str], None]


def unseen(doing: str) -> None:
    """Progress that nobody is shown."""


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        folder: where it is.
        record: what its model.json holds.
    """

    folder: Path
    record: dict[str, Any]


def check_steps(source: Source, form: str) -> None:
    """Raise UserError where a run has no step graph, which a format is made of."""
    if reason := source.record().get("no_step"):
        raise UserError(f"--format {form} takes runs that read step by step: {reason}; --format onnx takes it")


def example(source: Source, graph: Graph, B: int, T: int) -> Arrays:
    """Inputs of a graph, of B sequences of T steps; of their first step for the step graph."""
    arrays = source.random(np.random.default_rng(0), B, T)
    if graph.name != "step":
        return arrays
    return {port.name: _first(arrays[port.name], port.shape) for port in graph.inputs}


def _first(array: np.ndarray, shape: tuple[int | str, ...]) -> np.ndarray:
    """The first step of sequences, with an axis of time where the shape has one."""
    return np.ascontiguousarray(array[:, :1] if shape[1:2] == (1,) and array.ndim == 2 else array[:, 0])


def description(source: Source, files: dict[Path, Graph], found: Check, axes: dict[str, str]) -> dict[str, Any]:
    """What model.json says of graphs that were written."""
    return {
        "minrnn": __version__,
        "task": source.task,
        **source.record(),
        "graphs": {
            graph.name: {"file": path.name, **graph.record(), "bytes": path.stat().st_size}
            for path, graph in files.items()
        },
        "axes": axes,
        "check": found.record(),
    }


def finish(source: Source, folder: Path, files: dict[str, Path], record: dict[str, Any]) -> None:
    """Write what stands beside the graphs; model.json last."""
    with writing(folder):
        for name, path in files.items():
            shutil.copyfile(path, folder / name)
    vocabulary = source.vocabulary()
    if vocabulary is not None:
        write_json(folder / "tokenizer.json", vocabulary)
    record["files"] = files_in(folder)  # those that another export may replace
    write_json(folder / MARK, record)
