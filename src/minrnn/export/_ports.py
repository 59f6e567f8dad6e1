"""What goes into a graph and comes out of it, and states as named tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import GetAttrKey, SequenceKey, tree_flatten_with_path, tree_leaves, tree_unflatten

Shape = tuple[int | str, ...]


@dataclass(frozen=True)
class Port:
    """An input or an output of a graph; axes that are called by a letter have any length."""

    name: str
    shape: Shape
    dtype: torch.dtype

    def record(self) -> dict[str, Any]:
        return {"name": self.name, "shape": list(self.shape), "dtype": str(self.dtype).removeprefix("torch.")}


@dataclass(frozen=True)
class Graph:
    """A function of tensors that becomes a file.

    Attributes:
        name: of the file, without its ending.
        module: called with the inputs and then the states; returns the outputs and then the states.
        inputs, outputs: without the states.
        state: what is carried from call to call; None where nothing is.
        unit: what a difference of the first output is measured in.
    """

    name: str
    module: nn.Module
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    state: State | None = None
    unit: np.ndarray | float = 1.0

    @property
    def all_inputs(self) -> tuple[Port, ...]:
        return self.inputs + (self.state.inputs if self.state else ())

    @property
    def all_outputs(self) -> tuple[Port, ...]:
        return self.outputs + (self.state.outputs if self.state else ())

    def record(self) -> dict[str, Any]:
        """What model.json says of it."""
        record: dict[str, Any] = {
            "inputs": [port.record() for port in self.inputs],
            "outputs": [port.record() for port in self.outputs],
        }
        return record | ({"state": self.state.record()} if self.state else {})


class State:
    """A tree of tensors (B, ...), such as `model.initial_state(1)`, as named inputs and outputs.

    None in it, the window of a block without a convolution, is neither.
    """

    def __init__(self, initial: Any) -> None:
        leaves, self._spec = tree_flatten_with_path(initial)
        self._places = [place for place, (_, leaf) in enumerate(leaves) if isinstance(leaf, Tensor)]
        self._count = len(leaves)
        found = [leaves[place] for place in self._places]
        self.initial = [tensor for _, tensor in found]  # (1, ...)
        paths = [".".join(map(_key, path)) for path, _ in found]
        self.inputs, self.outputs = (
            tuple(
                Port(f"{name}.{path}", ("B", *t.shape[1:]), t.dtype) for path, (_, t) in zip(paths, found, strict=True)
            )
            for name in ("state", "next")
        )

    def tree(self, tensors: Sequence[Tensor]) -> Any:
        leaves: list[Tensor | None] = [None] * self._count
        for place, tensor in zip(self._places, tensors, strict=True):
            leaves[place] = tensor
        return tree_unflatten(leaves, self._spec)

    def tensors(self, tree: Any) -> list[Tensor]:
        """The inverse of `tree`."""
        leaves = tree_leaves(tree)
        return [leaves[place] for place in self._places]

    def rows(self, B: int) -> list[Tensor]:
        """The state before the first step, for a batch of B."""
        return [tensor.repeat(B, *[1] * (tensor.dim() - 1)) for tensor in self.initial]

    def record(self) -> list[dict[str, Any]]:
        """`initial` is the number that all of a tensor begins with, or what a row of it does."""
        records = []
        for before, after, tensor in zip(self.inputs, self.outputs, self.initial, strict=True):
            same = tensor.numel() == 0 or bool((tensor == tensor.flatten()[0]).all())
            begin = (tensor.flatten()[0].item() if tensor.numel() else 0) if same else tensor[0].tolist()
            records.append(before.record() | {"next": after.name, "initial": begin})
        return records


def _key(key: Any) -> str:
    return str(key.name if isinstance(key, GetAttrKey) else key.idx if isinstance(key, SequenceKey) else key.key)
