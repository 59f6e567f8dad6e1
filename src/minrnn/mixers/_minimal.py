"""minGRU and minLSTM: one stacked projection, the recurrence over it, and for the mixers a projection back to D."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..fused import Linear
from ..recurrence import ACTIVATIONS, in_memory_order, walk
from ._contract import Mixer, RecurrentState, check_sequence, check_state, exempt_from_weight_decay


class MinimalCell(nn.Module):
    """x (B, T, D) -> h (B, T, H): projections and recurrence, without a way back to D.

    The K projections are one matrix product, whose result goes to the recurrence as it is: taking it apart would cost
    a copy.
    """

    def __init__(self, recurrence: str, projections: int, input_size: int, hidden_size: int, bias: bool) -> None:
        super().__init__()
        self.recurrence = recurrence
        self.hidden_size = hidden_size
        self.projection = Linear(input_size, projections * hidden_size, bias=bias)
        exempt_from_weight_decay(self.projection.weight, self.projection.bias)  # the gates; as the authors' code does

    def forward(self, x: Tensor, h_0: Tensor | None = None, *, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B, T, D), h_0 (B, H), reset (B, T) -> h (B, T, H), the last state (B, H)."""
        return walk(self.recurrence, in_memory_order(self.projection, x), h_0, reset)

    def extra_repr(self) -> str:
        return self.recurrence


class _MinimalMixer(Mixer):
    """cell, then Linear(H, D)."""

    def __init__(self, width: int, cell: MinimalCell, bias: bool) -> None:
        super().__init__()
        self.width = width
        self.cell = cell
        self.down = Linear(cell.hidden_size, width, bias=bias)
        for part in (cell.projection, self.down):
            unit_variance(part)
        exempt_from_weight_decay(self.down.bias)

    def forward(
        self, x: Tensor, state: RecurrentState | None = None, *, reset: Tensor | None = None
    ) -> tuple[Tensor, RecurrentState]:
        check_sequence(x, self.width, reset)
        check_state(state, RecurrentState, h={"B": len(x), "H": self.cell.hidden_size})
        h, h_last = self.cell(x, None if state is None else state.h, reset=reset)
        return in_memory_order(self.down, h), RecurrentState(h_last)

    def initial_state(self, batch_size: int) -> RecurrentState:
        weight = self.down.weight
        dtype = torch.promote_types(weight.dtype, torch.float32)
        return RecurrentState(weight.new_zeros(batch_size, self.cell.hidden_size, dtype=dtype))


class MinGRUMixer(_MinimalMixer):
    """minGRU as a mixer (arXiv 2410.01201, section 3.1 and Appendix C).

    Args:
        width: D.
        expansion: hidden width H = round(expansion * D). Default 1.
        activation: of the candidate, "identity", "g" or "tanh".
        bias: add one to every projection. Default True.
    """

    def __init__(self, width: int, *, expansion: float = 1.0, activation: str = "identity", bias: bool = True) -> None:
        check_activation(activation)
        cell = MinimalCell(f"mingru/{activation}", 2, width, expanded(width, expansion), bias)
        super().__init__(width, cell, bias)


class MinLSTMMixer(_MinimalMixer):
    """minLSTM as a mixer (arXiv 2410.01201, section 3.2 and Appendix C).

    Args:
        width: D.
        expansion: hidden width H = round(expansion * D). Default 1.
        activation: of the candidate, "identity", "g" or "tanh".
        normalize: divide both gates by their sum, as in the paper; False as in the authors' code.
        forget_bias: added to the bias of the forget gate at the start; the paper raises it to train faster.
        bias: add one to every projection. Default True.
    """

    def __init__(
        self,
        width: int,
        *,
        expansion: float = 1.0,
        activation: str = "identity",
        normalize: bool = True,
        forget_bias: float = 0.0,
        bias: bool = True,
    ) -> None:
        check_activation(activation)
        name = "minlstm" if normalize else "minlstm_unnormalized"
        cell = MinimalCell(f"{name}/{activation}", 3, width, expanded(width, expansion), bias)
        if forget_bias:
            raise_forget_bias(cell.projection.bias, cell.hidden_size, forget_bias)
        super().__init__(width, cell, bias)


def expanded(width: int, expansion: float) -> int:
    """round(expansion * width), at least 1."""
    if not 0 < expansion < math.inf:
        raise ValueError(f"expansion is {expansion}; expected more than 0, and finite")
    return max(1, round(expansion * width))


def unit_variance(linear: nn.Linear) -> None:
    """Draw weights that give outputs the variance of the inputs."""
    nn.init.normal_(linear.weight, std=linear.in_features**-0.5)


def raise_forget_bias(bias: Tensor | None, H: int, by: float) -> None:
    """Add to the forget part, the first H, of the bias of [forget | input | candidate]."""
    if bias is None:
        raise ValueError(f"forget_bias is {by}, but bias is False; expected bias=True or forget_bias=0")
    with torch.no_grad():
        bias[:H] += by


def check_activation(activation: str) -> None:
    """Raise where no recurrence has a candidate activation of this name."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; expected one of {', '.join(map(repr, ACTIVATIONS))}")
