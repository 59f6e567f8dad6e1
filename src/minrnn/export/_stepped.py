"""Mixers as one operator over time: an exported graph has no loop of a length that is not known yet."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._higher_order_ops import scan

from minrnn.errors import UserError

from ..mixers import Mixer, name_of, names, options
from ..models._block import Block

GROWS = "its state grows with what it reads"
REFUSED = {
    "s4d": "it needs complex numbers, which neither ONNX nor ExecuTorch has",
    "srupp": GROWS,
}
Network = TypeVar("Network", bound=nn.Module)


class Stepped(nn.Module):
    """Calls a mixer at each step.

    One call serves single steps and whole sequences alike (see `Mixer`), so that what a mixer does with one step is all
    that a graph needs, whichever mixer it is. ONNX has the operator `Scan` for it.
    """

    def __init__(self, mixer: Mixer) -> None:
        super().__init__()
        self.mixer, self.width = mixer, mixer.width

    def forward(self, x: Tensor, state: Any = None, *, reset: None = None) -> tuple[Tensor, Any]:
        """x (B, T, D) -> y (B, T, D), state; T of at least 1."""
        state = self.mixer.initial_state(x.shape[0]) if state is None else state
        kind = type(state)

        def step(state: Any, row: Tensor) -> Any:
            y, after = self.mixer(row[:, None], kind(*state))
            return tuple(map(_apart, after)), _apart(y[:, 0])

        last, rows = scan(step, tuple(map(_apart, state)), x.transpose(0, 1))
        return rows.transpose(0, 1), kind(*last)


def _apart(tensor: Tensor) -> Tensor:
    """The operator wants tensors that share no memory, all in one layout."""
    return tensor.clone(memory_format=torch.contiguous_format)


def stepped(network: Network) -> Network:
    """A copy of a network whose mixers are called step by step."""
    network = copy.deepcopy(network)
    for module in network.modules():
        if isinstance(module, Block):
            module.mixer = Stepped(module.mixer)  # type: ignore[assignment]
    return network


def check_mixers(network: nn.Module) -> None:
    """Raise UserError, naming the mixer, where one of them cannot be exported."""
    for module in network.modules():
        if not isinstance(module, Mixer):
            continue
        name = name_of(module)
        if name in REFUSED:
            raise UserError(f"the mixer {name} cannot be exported: {REFUSED[name]}; {_those_that_can()}")
        if not module.constant_state:
            raise UserError(f"the mixer {name} without a window cannot be exported: {GROWS}; {_those_that_can()}")


def _those_that_can() -> str:
    able = [name for name in names() if name not in REFUSED]
    return "those that can are " + ", ".join(
        f"{name}:window=64" if "window" in options(name) else name for name in able
    )
