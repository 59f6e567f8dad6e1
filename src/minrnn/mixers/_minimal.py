"""minGRU and minLSTM: one stacked projection, the recurrence over it, and for the mixers a projection back to the
model width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..recurrence import walk
from ._contract import Mixer, RecurrentState, exempt_from_weight_decay

ACTIVATIONS = ("identity", "g", "tanh")


class MinimalCell(nn.Module):
    """x (B, T, D) -> h (B, T, H): projections and recurrence, without a way back to D. `MinGRU` stacks these.

    The K projections are one matrix product, whose result goes to the recurrence as it is: taking it apart would cost
        a copy.
    """

    def __init__(
        self, recurrence: str, projections: int, input_size: int, hidden_size: int, bias: bool, factory: Any
    ) -> None:
        super().__init__()
        self.recurrence = recurrence
        self.hidden_size = hidden_size
        self.projection = nn.Linear(input_size, projections * hidden_size, bias=bias, **factory)
        exempt_from_weight_decay(
            self.projection.weight, self.projection.bias
        )  # as the authors' code does: it holds the gates

    def forward(
        self, x: Tensor, h_0: Tensor | None = None, *, reset: Tensor | None = None, reverse: bool = False
    ) -> tuple[Tensor, Tensor]:
        """x (B, T, D), h_0 (B, H), reset (B, T) -> h (B, T, H), the last state (B, H)."""
        return walk(self.recurrence, _in_memory_order(self.projection, x), h_0, reset, reverse=reverse)

    def extra_repr(self) -> str:
        return self.recurrence


def mingru_cell(
    input_size: int,
    hidden_size: int,
    *,
    bias: bool = True,
    activation: str = "identity",
    device: Any = None,
    dtype: torch.dtype | None = None,
) -> MinimalCell:
    """[gate | candidate] = W x + b, then `minrnn.recurrence.mingru`."""
    _check_activation(activation)
    factory = {"device": device, "dtype": dtype}
    return MinimalCell(f"mingru/{activation}", 2, input_size, hidden_size, bias, factory)


def minlstm_cell(
    input_size: int,
    hidden_size: int,
    *,
    bias: bool = True,
    activation: str = "identity",
    normalize: bool = True,
    forget_bias: float = 0.0,
    device: Any = None,
    dtype: torch.dtype | None = None,
) -> MinimalCell:
    """[forget | input | candidate] = W x + b, then `minrnn.recurrence.minlstm`; `forget_bias` is added to b's forget
    part.
    """
    _check_activation(activation)
    if forget_bias and not bias:
        raise ValueError(f"forget_bias is {forget_bias}, but bias is False; expected bias=True or forget_bias=0")
    name = "minlstm" if normalize else "minlstm_unnormalized"
    cell = MinimalCell(f"{name}/{activation}", 3, input_size, hidden_size, bias, {"device": device, "dtype": dtype})
    if forget_bias:
        with torch.no_grad():
            cell.projection.bias[:hidden_size] += forget_bias
    return cell


class _MinimalMixer(Mixer):
    """cell, then Linear(H, D)."""

    def __init__(self, width: int, cell: MinimalCell) -> None:
        super().__init__()
        self.width = width
        self.cell = cell
        self.down = nn.Linear(cell.hidden_size, width)
        exempt_from_weight_decay(self.down.bias)

    def forward(
        self, x: Tensor, state: RecurrentState | None = None, *, reset: Tensor | None = None
    ) -> tuple[Tensor, RecurrentState]:
        h, h_last = self.cell(x, None if state is None else state.h, reset=reset)
        return self.down(h), RecurrentState(h_last)

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
    """

    def __init__(self, width: int, *, expansion: float = 1.0, activation: str = "identity") -> None:
        super().__init__(width, mingru_cell(width, expanded(width, expansion), activation=activation))


class MinLSTMMixer(_MinimalMixer):
    """minLSTM as a mixer (arXiv 2410.01201, section 3.2 and Appendix C).

    Args:
        width: D.
        expansion: hidden width H = round(expansion * D). Default 1.
        activation: of the candidate, "identity", "g" or "tanh".
        normalize: divide both gates by their sum, as in the paper; False as in the authors' code.
        forget_bias: added to the bias of the forget gate at the start; the paper raises it to train faster.
    """

    def __init__(
        self,
        width: int,
        *,
        expansion: float = 1.0,
        activation: str = "identity",
        normalize: bool = True,
        forget_bias: float = 0.0,
    ) -> None:
        options = {"activation": activation, "normalize": normalize, "forget_bias": forget_bias}
        super().__init__(width, minlstm_cell(width, expanded(width, expansion), **options))  # type: ignore[arg-type]


def expanded(width: int, expansion: float) -> int:
    """round(expansion * width), at least 1."""
    if not expansion > 0:
        raise ValueError(f"expansion is {expansion}; expected more than 0")
    return max(1, round(expansion * width))


def _in_memory_order(linear: nn.Linear, x: Tensor) -> Tensor:
    """linear(x) for x (B, T, D) in either memory order: on a transposed view nn.Linear would copy its input."""
    if x.stride(0) < x.stride(1) and not x.is_contiguous():
        return linear(x.transpose(0, 1)).transpose(0, 1)  # type: ignore[no-any-return]
    return linear(x)  # type: ignore[no-any-return]


def _check_activation(activation: str) -> None:
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; expected one of {', '.join(map(repr, ACTIVATIONS))}")
