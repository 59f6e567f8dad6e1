"""Weights in eight bits, and what that costs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ._graph_file import open_graph
from ._ports import Graph
from ._source import Source


def quantize(path: Path) -> Path:
    """Write a graph again with the weights of its matrix products in eight bits; those of a `Scan` too."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    small = path.with_suffix(".int8.onnx")
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # it recommends a preprocessing that infers shapes, which are known here
    try:
        quantize_dynamic(
            path, small, weight_type=QuantType.QInt8, per_channel=True, extra_options={"EnableSubgraph": True}
        )
    finally:
        root.setLevel(level)
    return small


def measure(source: Source, graphs: dict[str, Graph], folder: Path, held_out: Any) -> dict[str, Any]:
    """Quantize all graphs of a folder, and compare the sequence graph with itself in float32.

    Args:
        held_out: what was held out in training, as `source.score` takes it; None measures on what the run makes up.

    Returns:
        What model.json says of it.
    """
    data, on = (held_out, "what was held out in training") if held_out is not None else source.invented()
    files = {}
    for name in graphs:
        path = folder / f"{name}.onnx"
        small = quantize(path)
        files[name] = {"file": small.name, "bytes": small.stat().st_size, "bytes_float32": path.stat().st_size}
    graph = graphs["sequence"]
    what, exact = source.score(open_graph(folder / "sequence.onnx", graph), data)
    _, rough = source.score(open_graph(folder / "sequence.int8.onnx", graph), data)
    return {"graphs": files, "measured": what, "on": on, "float32": exact, "int8": rough, "difference": rough - exact}
