"""Weights in eight bits, and what that costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ._graph_file import open_graph
from ._ports import Graph
from ._source import Source
from ._traced import quiet


def quantize(path: Path) -> Path:
    """Write a graph again with the weights of its matrix products in eight bits; those of a `Scan` too."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    small = path.with_suffix(".int8.onnx")
    # Seven of the eight bits: where a processor has no instructions for such sums (VNNI), those of eight saturate.
    with quiet("root"):  # it recommends a preprocessing that infers shapes, which are known here
        quantize_dynamic(
            path,
            small,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            extra_options={"EnableSubgraph": True},
        )
    return small


def measure(source: Source, written: dict[Path, Graph], held_out: Any) -> dict[str, Any]:
    """Quantize all graphs that were written, and compare the sequence graph with itself in float32.

    Args:
        held_out: what was held out in training, as `source.score` takes it; None measures on what the run makes up.

    Returns:
        What model.json says of it.
    """
    data, on = (held_out, "what was held out in training") if held_out is not None else source.invented()
    files = {}
    for path, graph in written.items():
        small = quantize(path)
        files[graph.name] = {"file": small.name, "bytes": small.stat().st_size, "bytes_float32": path.stat().st_size}
        if graph.name == "sequence":
            what, exact = source.score(open_graph(path, graph), data)
            _, rough = source.score(open_graph(small, graph), data)
    return {"graphs": files, "measured": what, "on": on, "float32": exact, "int8": rough, "difference": rough - exact}
