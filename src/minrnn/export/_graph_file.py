"""From a `Graph` to a file in ONNX's own operators, and from the file to a function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from minrnn.errors import UserError

from ._ports import Graph
from ._source import Arrays, Run
from ._traced import exporting, traced, with_state

B, T = 2, 7  # sizes of the example that a module is traced with


def check_installed() -> None:
    """Raise UserError where the extra is missing."""
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"export needs {error.name}: pip install 'minrnn[onnx]'") from None


def write_graph(graph: Graph, example: Arrays, path: Path) -> None:
    """Write a graph; `example` are inputs of `B` sequences of `T` steps.

    Raises UserError where torch cannot trace it, or has no operators of ONNX for it.
    """
    with exporting(graph, "torch.onnx._internal.exporter._registration"):  # it misses torchvision, which is not needed
        exported = torch.onnx.export(
            traced(graph, example, fixed=False),
            dynamo=True,
            verbose=False,
            input_names=[port.name for port in graph.all_inputs],
            output_names=[port.name for port in graph.all_outputs],
        )
        assert exported is not None
    _write(exported.model_proto, graph, path)


def _write(model: Any, graph: Graph, path: Path) -> None:
    """Axes under our names, and nothing of where the sources lay."""
    import onnx

    for values, ports in ((model.graph.input, graph.all_inputs), (model.graph.output, graph.all_outputs)):
        for value, port in zip(values, ports, strict=True):
            for dim, size in zip(value.type.tensor_type.shape.dim, port.shape, strict=True):
                dim.Clear()
                if isinstance(size, str):
                    dim.dim_param = size
                else:
                    dim.dim_value = size
    model.producer_name, model.producer_version = "minrnn", ""
    _strip(model.graph)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _strip(graph: Any) -> None:
    used = _names_read(graph)
    for index in reversed([at for at, constant in enumerate(graph.initializer) if constant.name not in used]):
        del graph.initializer[index]  # onnxruntime would warn of it at every start
    graph.ClearField("value_info")
    graph.ClearField("metadata_props")
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _strip(attribute.g)


def _names_read(graph: Any) -> set[str]:
    names = {value.name for value in graph.output}
    for node in graph.node:
        names.update(node.input)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                names |= _names_read(attribute.g)
    return names


def open_graph(path: Path, graph: Graph) -> Run:
    """The graph in a file as a function, run by onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of initializers that it drops itself
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [port.name for port in graph.all_outputs]

    def run(inputs: Arrays) -> Arrays:
        return dict(zip(names, session.run(names, with_state(graph, inputs)), strict=True))

    return run
