"""minGRU, minLSTM and their nearest kin: one stacked projection, a recurrence of one state over it, and for the mixers
a projection back to D.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..fused import Linear, gelu_dropout
from ..recurrence import ACTIVATIONS, in_memory_order, walk
from ._contract import Mixer, RecurrentState, check_sequence, check_state, exempt_from_weight_decay


class MinimalCell(nn.Module):
    """x (B, T, D) -> h (B, T, H): projections and recurrence, without a way back to D.

    The K projections are one matrix product, whose result goes to the recurrence as it is: taking it apart would cost
    a copy.
    """

    def __init__(
        self,
        recurrence: str,
        projections: int,
        input_size: int,
        hidden_size: int,
        bias: bool,
        *,
        gate_mlp: float = 0.0,
        logspace: bool = False,
    ) -> None:
        super().__init__()
        self.recurrence = recurrence
        self.hidden_size = hidden_size
        self.preferred = "logspace" if logspace else None
        inner = expanded(input_size, gate_mlp) if gate_mlp else input_size
        self.inner = Linear(input_size, inner, bias=bias) if gate_mlp else None
        self.projection = Linear(inner, projections * hidden_size, bias=bias)
        for part in filter(None, (self.inner, self.projection)):
            unit_variance(part)
            exempt_from_weight_decay(part.weight, part.bias)  # the gates; as the authors' code does

    def forward(self, x: Tensor, h_0: Tensor | None = None, *, reset: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B, T, D), h_0 (B, H), reset (B, T) -> h (B, T, H), the last state (B, H)."""
        if self.inner is not None:
            x = gelu_dropout(in_memory_order(self.inner, x))
        return walk(self.recurrence, in_memory_order(self.projection, x), h_0, reset, preferred=self.preferred)

    def extra_repr(self) -> str:
        return self.recurrence


class MinimalMixer(Mixer):
    """cell, then Linear(H, D): any mixer that is one projection, one recurrence that `walk` serves, and the way back.

    Args:
        width: D.
        cell: D -> H.
        bias: add one to the way back.
    """

    def __init__(self, width: int, cell: MinimalCell, bias: bool) -> None:
        super().__init__()
        self.width = width
        self.cell = cell
        self.down = Linear(cell.hidden_size, width, bias=bias)
        unit_variance(self.down)
        exempt_from_weight_decay(self.down.bias)

    def forward(
        self, x: Tensor, state: RecurrentState | None = None, *, reset: Tensor | None = None
    ) -> tuple[Tensor, RecurrentState]:
        check_sequence(x, self.width, reset)
        check_state(state, RecurrentState, h={"B": len(x), "H": self.cell.hidden_size})
        h, h_last = self.cell(x, None if state is None else state.h, reset=reset)
        return in_memory_order(self.down, h), RecurrentState(h_last)

    def initial_state(self, batch_size: int) -> RecurrentState:
        return RecurrentState(fresh(self.down.weight, batch_size, self.cell.hidden_size))


class MinGRUMixer(MinimalMixer):
    """minGRU as a mixer (arXiv 2410.01201, section 3.1 and Appendix C).

    h_t = (1 - z_t) h_{t-1} + z_t c_t with z = sigmoid(W_z x), c = act(W_h x); y = W_down h

    Args:
        width: D.
        expansion: hidden width H = round(expansion * D). Default 1.
        activation: of the candidate, "identity", "g" or "tanh".
        forget_bias: taken from the bias of the gate at the start, so that 1 - z, which plays minLSTM's forget gate,
            begins at sigmoid(forget_bias). Default 0.
        bias: add one to every projection. Default True.
        gate_mlp: gates and candidate are an MLP of the input, Linear(D, gate_mlp * D), GELU, Linear, instead of
            linear maps. Default 0: linear.
        logspace: run the paper's parallel scan in log space (Appendix B), which is slower here; needs activation "g".
    """

    def __init__(
        self,
        width: int,
        *,
        expansion: float = 1.0,
        activation: str = "identity",
        forget_bias: float = 0.0,
        bias: bool = True,
        gate_mlp: float = 0.0,
        logspace: bool = False,
    ) -> None:
        check_activation(activation)
        check_logspace(logspace, activation)
        H = expanded(width, expansion)
        cell = MinimalCell(f"mingru/{activation}", 2, width, H, bias, gate_mlp=gate_mlp, logspace=logspace)
        if forget_bias:
            raise_forget_bias(cell.projection.bias, H, -forget_bias)
        super().__init__(width, cell, bias)


class MinLSTMMixer(MinimalMixer):
    """minLSTM as a mixer (arXiv 2410.01201, section 3.2 and Appendix C).

    h_t = f' h_{t-1} + i' c_t with f' = f / (f + i), i' = i / (f + i); y = W_down h

    Args:
        width: D.
        expansion: hidden width H = round(expansion * D). Default 1.
        activation: of the candidate, "identity", "g" or "tanh".
        normalize: divide both gates by their sum, as in the paper; False as in the authors' code.
        forget_bias: added to the bias of the forget gate at the start; the paper raises it to train faster.
        bias: add one to every projection. Default True.
        gate_mlp, logspace: as for minGRU.
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
        gate_mlp: float = 0.0,
        logspace: bool = False,
    ) -> None:
        check_activation(activation)
        check_logspace(logspace, activation)
        name = "minlstm" if normalize else "minlstm_unnormalized"
        H = expanded(width, expansion)
        cell = MinimalCell(f"{name}/{activation}", 3, width, H, bias, gate_mlp=gate_mlp, logspace=logspace)
        if forget_bias:
            raise_forget_bias(cell.projection.bias, H, forget_bias)
        super().__init__(width, cell, bias)


class GILRMixer(MinimalMixer):
    """Gated impulse linear recurrence, the ancestor of 2017 (arXiv 1709.04057, section 3.1).

    h_t = g_t h_{t-1} + (1 - g_t) i_t with g = sigmoid(U x + b_g), i = tanh(V x + b_z); y = W_down h

    Args:
        width: D.
        expansion: hidden width H = round(expansion * D). Default 1.
        bias: add one to every projection. Default True.
    """

    def __init__(self, width: int, *, expansion: float = 1.0, bias: bool = True) -> None:
        super().__init__(width, MinimalCell("forget/tanh", 2, width, expanded(width, expansion), bias), bias)


class SignedMixer(MinimalMixer):
    """minGRU whose transition may be negative, so that it can learn parity (after arXiv 2411.12537).

    h_t = tanh(W_a x_t) h_{t-1} + sigmoid(W_i x_t) W_v x_t; y = W_down h

    The convex form (1 - |a_t|) v_t of the input reaches parity at the length of training but not beyond.

    Args:
        width: D.
        expansion: hidden width H = round(expansion * D). Default 1.
        bias: add one to every projection. Default True.
    """

    def __init__(self, width: int, *, expansion: float = 1.0, bias: bool = True) -> None:
        super().__init__(width, MinimalCell("signed", 3, width, expanded(width, expansion), bias), bias)


def fresh(weight: Tensor, *shape: int) -> Tensor:
    """Zeros for a state: in float32, or in float64 beside weights of that dtype."""
    return weight.new_zeros(*shape, dtype=torch.promote_types(weight.dtype, torch.float32))


def expanded(width: int, expansion: float) -> int:
    """round(expansion * width), at least 1."""
    if not 0 < expansion < math.inf:
        raise ValueError(f"expansion is {expansion}; expected more than 0, and finite")
    return max(1, round(expansion * width))


def unit_variance(linear: nn.Linear) -> None:
    """Draw weights that give outputs the variance of the inputs."""
    nn.init.normal_(linear.weight, std=linear.in_features**-0.5)


def raise_forget_bias(bias: Tensor | None, H: int, by: float) -> None:
    """Add to the first H of a stacked bias: the forget part of [forget | input | candidate], the gate of [z | c]."""
    if bias is None:
        raise ValueError(f"forget_bias is {by}, but bias is False; expected bias=True or forget_bias=0")
    with torch.no_grad():
        bias[:H] += by


def check_logspace(logspace: bool, activation: str) -> None:
    """Raise where the log-space form is asked for and candidates may be negative."""
    if logspace and activation != "g":
        raise ValueError(f'logspace is True with activation {activation!r}; expected activation="g": logs need c > 0')


def check_activation(activation: str) -> None:
    """Raise where no recurrence has a candidate activation of this name."""
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; expected one of {', '.join(map(repr, ACTIVATIONS))}")
