"""From a `Graph` to a file in ONNX's own operators, and from the file to a function."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minrnn.errors import UserError

from ..recurrence import backend
from ._ports import Graph, Port
from ._source import Arrays, Run

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
    tensors = [torch.from_numpy(example[port.name]) for port in graph.inputs]
    arguments = (*tensors, *(graph.state.rows(B) if graph.state else []))
    open_axes = tuple(_open_axes(port) for port in graph.all_inputs)
    try:
        with _quiet(), backend("definition"), torch.no_grad():
            # strict, because without Dynamo a size that Python asks for, len(x), would be fixed in the graph
            program = torch.export.export(_Flat(graph.module), arguments, dynamic_shapes=(open_axes,), strict=True)
            exported = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                input_names=[port.name for port in graph.all_inputs],
                output_names=[port.name for port in graph.all_outputs],
            )
            assert exported is not None
    except Exception as error:  # of as many kinds as torch has stages
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"torch {torch.__version__} cannot export {graph.name}: {reason}; please report it with the run's pattern"
        ) from error
    _write(exported.model_proto, graph, path)


class _Flat(nn.Module):
    """A module as a function of any number of tensors."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.eval()

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.module(*tensors))


def _open_axes(port: Port) -> dict[int, Any]:
    return {axis: torch.export.Dim.DYNAMIC for axis, size in enumerate(port.shape) if isinstance(size, str)}


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of torchvision, which nobody needs here, and warns of its own use of torch."""
    log = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
            yield
    finally:
        log.setLevel(level)


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
        state = _beginning(graph, len(inputs[graph.inputs[0].name])) | inputs
        return dict(zip(names, session.run(names, state), strict=True))

    return run


def eager(graph: Graph) -> Run:
    """The graph as torch runs it."""

    @torch.inference_mode()
    def run(inputs: Arrays) -> Arrays:
        given = _beginning(graph, len(inputs[graph.inputs[0].name])) | inputs
        found = graph.module(*(torch.from_numpy(np.ascontiguousarray(given[port.name])) for port in graph.all_inputs))
        return {port.name: tensor.numpy() for port, tensor in zip(graph.all_outputs, found, strict=True)}

    return run


def _beginning(graph: Graph, rows: int) -> Arrays:
    """The states before the first step."""
    if graph.state is None:
        return {}
    return {port.name: tensor.numpy() for port, tensor in zip(graph.state.inputs, graph.state.rows(rows), strict=True)}
