"""A `Graph` as torch traces it, whatever file is made of that, and as torch runs it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from minrnn.errors import UserError

from ..recurrence import backend
from ._ports import Graph, Port
from ._source import Arrays, Run

# What torch's exporters say of their own use of torch and of Python.
OF_THEMSELVES = (
    r".*isinstance\(treespec, LeafSpec\)",
    r"`?(open_text|read_text|read_binary|torch\.jit\.script_method)`? is deprecated",
    r"This API is experimental",
)


def traced(graph: Graph, example: Arrays, *, fixed: bool) -> torch.export.ExportedProgram:
    """What torch makes of a graph with inputs such as `example`; of their sizes alone where `fixed`."""
    tensors = [torch.from_numpy(example[port.name]) for port in graph.inputs]
    arguments = (*tensors, *(graph.state.rows(len(tensors[0])) if graph.state else []))
    open_axes = None if fixed else (tuple(_open_axes(port) for port in graph.all_inputs),)
    # strict, because without Dynamo a size that Python asks for, len(x), would be fixed in the graph
    return torch.export.export(_Flat(graph.module), arguments, dynamic_shapes=open_axes, strict=True)


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
def exporting(graph: Graph, *loggers: str) -> Iterator[None]:
    """Where graphs are traced and written. What fails in it becomes a UserError; of `loggers` see `quiet`."""
    try:
        with quiet(*loggers), backend("definition"), torch.no_grad():
            yield
    except Exception as error:  # of as many kinds as torch has stages
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"torch {torch.__version__} cannot export {graph.name}: {reason}; please report it with the run's pattern"
        ) from error


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Loggers of these names tell of errors alone, and exporters do not warn of themselves."""
    logs = [logging.getLogger(name) for name in loggers]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for message in OF_THEMSELVES:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


def eager(graph: Graph) -> Run:
    """The graph as torch runs it."""

    @torch.inference_mode()
    def run(inputs: Arrays) -> Arrays:
        given = with_state(graph, inputs)
        found = graph.module(*(torch.from_numpy(np.ascontiguousarray(given[port.name])) for port in graph.all_inputs))
        return {port.name: tensor.numpy() for port, tensor in zip(graph.all_outputs, found, strict=True)}

    return run


def with_state(graph: Graph, inputs: Arrays) -> Arrays:
    """Inputs and, where states are left out, those before the first step."""
    if graph.state is None:
        return inputs
    rows = graph.state.rows(len(inputs[graph.inputs[0].name]))
    return {port.name: tensor.numpy() for port, tensor in zip(graph.state.inputs, rows, strict=True)} | inputs
