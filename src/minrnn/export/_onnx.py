from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ._check import Check, check
from ._exported import Busy, Exported, description, example, finish, unseen
from ._graph_file import B, T, check_installed, open_graph, write_graph
from ._int8 import measure
from ._places import appearing, beside
from ._ports import Graph
from ._source import Source, source_of

AXES = {"B": "sequences, any number", "T": "steps, 1 or more"}


def export_onnx(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    int8: bool = False,
    held_out: Any = None,
    overwrite: bool = False,
    busy: Busy = unseen,
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
        busy: told what is under way.

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
        written, found = write_checked(source, folder, busy)
        record = description(source, written, found, AXES)
        if int8:
            busy("measuring eight bits")
            record["int8"] = measure(source, written, held_out)
        step = {} if "no_step" in record else {"step.py": beside("step_onnx.py")}
        finish(source, folder, source.files() | step, record)
    return Exported(Path(out), record)


def write_checked(source: Source, folder: Path, busy: Busy) -> tuple[dict[Path, Graph], Check]:
    """Write all graphs of a run and compare them with it."""
    written = {folder / f"{name}.onnx": graph for name, graph in source.graphs(exported=True).items()}
    for path, graph in written.items():
        busy(f"writing {path.name}")
        write_graph(graph, example(source, graph, B, T), path)
    busy("comparing with torch")
    return written, check(source, {graph.name: open_graph(path, graph) for path, graph in written.items()})
