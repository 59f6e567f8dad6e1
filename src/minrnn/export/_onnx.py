from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..training._files import write_json, writing
from ._check import Check, check
from ._graph_file import B, T, check_installed, open_graph, write_graph
from ._int8 import measure
from ._places import MARK, appearing
from ._ports import Graph
from ._source import Source, source_of


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        folder: where it is.
        record: what its model.json holds.
    """

    folder: Path
    record: dict[str, Any]


def export_onnx(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    int8: bool = False,
    held_out: Any = None,
    overwrite: bool = False,
) -> Exported:
    """Write a run as ONNX graphs, with all that is needed to use them, and check them against the run.

    The folder has `sequence.onnx` (whole sequences), `step.onnx` (one time step, with a state in and out; not for
    forecasters and for networks that read from both ends), `model.json` and `run.py`, an example that needs numpy and
    onnxruntime alone.

    Args:
        run: folder that `minrnn train` wrote, or `save_estimator`.
        out: folder to write, new or empty.
        int8: also write the graphs with the weights of their matrix products in eight bits.
        held_out: what to measure eight bits on: tokens (N,) of a language model; series and labels of a classifier
            or a regressor. By default what the run makes up itself.
        overwrite: replace an earlier export.

    Raises:
        UserError: no such run; a mixer that cannot be exported; a folder that holds something else; the extra `onnx`
            is missing; graphs that differ from the run by more than 1e-4. Nothing is left in `out` then.

    Example:
        >>> export_onnx("runs/shakespeare", "shakespeare-onnx").record["check"]["sequence"]
        4.8e-07
    """
    check_installed()
    source = source_of(run)
    with appearing(Path(out), overwrite) as folder:
        graphs, found = write_checked(source, folder)
        record = description(source, graphs, found, folder)
        if int8:
            record["int8"] = measure(source, graphs, folder, held_out)
        finish(source, folder, source.files(), record)
    return Exported(Path(out), record)


def write_checked(source: Source, folder: Path) -> tuple[dict[str, Graph], Check]:
    """Write all graphs of a run and compare them with it."""
    graphs, rng = source.graphs(exported=True), np.random.default_rng(0)
    for name, graph in graphs.items():
        example = source.random(rng, B, T)
        if name == "step":
            example = {port.name: _first(example[port.name], port.shape) for port in graph.inputs}
        write_graph(graph, example, folder / f"{name}.onnx")
    return graphs, check(source, {name: open_graph(folder / f"{name}.onnx", graph) for name, graph in graphs.items()})


def finish(source: Source, folder: Path, files: dict[str, Path], record: dict[str, Any]) -> None:
    """Write what stands beside the graphs; model.json last."""
    with writing(folder):
        for name, path in files.items():
            shutil.copyfile(path, folder / name)
    vocabulary = source.vocabulary()
    if vocabulary is not None:
        write_json(folder / "tokenizer.json", vocabulary)
    write_json(folder / MARK, record)


def _first(array: np.ndarray, shape: tuple[int | str, ...]) -> np.ndarray:
    """The first step of sequences, with an axis of time where the shape has one."""
    return np.ascontiguousarray(array[:, :1] if shape[1:2] == (1,) and array.ndim == 2 else array[:, 0])


def description(source: Source, graphs: dict[str, Graph], found: Check, folder: Path) -> dict[str, Any]:
    """What model.json says of graphs that were written."""
    sizes = {name: {"bytes": (folder / f"{name}.onnx").stat().st_size} for name in graphs}
    return {
        "minrnn": __version__,
        "task": source.task,
        **source.record(),
        "graphs": {name: graph.record() | sizes[name] for name, graph in graphs.items()},
        "axes": {"B": "sequences, any number", "T": "steps, 1 or more"},
        "check": {
            "sequence": found.sequence,
            "step": found.step,
            "meaning": "largest difference of sequence from torch, and of step from sequence, on random input",
        },
    }
