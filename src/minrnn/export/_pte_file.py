"""From a `Graph` to a file of ExecuTorch, for one sequence, and from the file to a function."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from minrnn.errors import UserError

from ._ports import Graph
from ._source import Arrays, Run
from ._traced import exporting, quiet, traced, with_state


def check_installed() -> None:
    """Raise UserError where the extra is missing. Takes seconds where it is not: ExecuTorch imports a great deal."""
    try:
        # torchao among it, which tells of its libraries for GPUs, and with it torch of what torchao does
        with quiet("torchao", "torch.utils._pytree"):
            import executorch.exir
            import executorch.runtime  # noqa: F401
    except ImportError:
        raise UserError("--format executorch needs executorch: pip install 'minrnn[executorch]'") from None


def write_pte(graph: Graph, example: Arrays, path: Path) -> None:
    """Write a graph for ExecuTorch's portable kernels; `example` are inputs of one step.

    Raises UserError where torch cannot trace it, or ExecuTorch has no operators for it.
    """
    from executorch.exir import to_edge_transform_and_lower

    # no partitioner: in XNNPACK's kernels a small model differed by 7e-5, close to what `check` allows
    with exporting(graph):
        program = to_edge_transform_and_lower(traced(graph, example, fixed=True)).to_executorch()
    path.write_bytes(program.buffer)


def open_pte(path: Path, graph: Graph) -> Run:
    """The graph in a file as a function, run by ExecuTorch, a sequence after the other."""
    from executorch.runtime import Runtime

    with exporting(graph):
        method = Runtime.get().load_program(path).load_method("forward")
    names = [port.name for port in graph.all_outputs]

    def run(inputs: Arrays) -> Arrays:
        given = with_state(graph, inputs)
        rows = zip(*(np.split(given[port.name], len(given[port.name])) for port in graph.all_inputs), strict=True)
        with exporting(graph), _unheard():
            found = [method.execute([torch.from_numpy(array) for array in row]) for row in rows]
        return {name: torch.cat(parts).numpy() for name, parts in zip(names, zip(*found, strict=True), strict=True)}

    return run


@contextmanager
def _unheard() -> Iterator[None]:
    """Without what C++ says to stderr: ExecuTorch looks for files that tell ARM processors apart, and says each."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        for handle in (kept, nowhere):
            os.close(handle)
