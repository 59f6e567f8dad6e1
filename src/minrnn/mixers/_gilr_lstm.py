from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..fused import Linear, recent
from ..recurrence import channelwise, walk
from ._contract import Mixer, check_sequence, check_state, exempt_from_weight_decay
from ._minimal import expanded, fresh, raise_forget_bias, unit_variance


class GILRLSTMState(NamedTuple):
    """What a GILR-LSTM carries."""

    h: Tensor  # (B, H), of the GILR, float32 or float64
    c: Tensor  # (B, H), float32 or float64


class GILRLSTMMixer(Mixer):
    """LSTM whose gates see a GILR in place of its own output, so that it is two scans (arXiv 1709.04057, section 3.2).

    h_t = g_t h_{t-1} + (1 - g_t) tanh(V x_t + b) with g = sigmoid(U x_t + b_g);
    f, i, o = sigmoid(W [h_{t-1}, x_t] + b), z = tanh(W_z [h_{t-1}, x_t] + b_z);
    c_t = f c_{t-1} + i z; y = W_down (o c_t)

    The paper's text says h_{t-1}, as here; its code feeds h_t.

    Args:
        width: D.
        expansion: hidden width H = round(expansion * D). Default 1.
        forget_bias: what is added to the bias of the gate f at the start. Default 5, as in the authors' code.
    """

    def __init__(self, width: int, *, expansion: float = 1.0, forget_bias: float = 5.0) -> None:
        super().__init__()
        self.width, self.hidden_size = width, expanded(width, expansion)
        H = self.hidden_size
        self.surrogate = Linear(width, 2 * H)  # [gate | candidate] of the GILR
        self.projection = Linear(H + width, 4 * H)  # [forget | input | output | candidate]
        self.down = Linear(H, width)
        for part in (self.surrogate, self.projection, self.down):
            unit_variance(part)
            exempt_from_weight_decay(part.bias)
        exempt_from_weight_decay(self.surrogate.weight, self.projection.weight)
        raise_forget_bias(self.projection.bias, H, forget_bias)

    def forward(
        self, x: Tensor, state: GILRLSTMState | None = None, *, reset: Tensor | None = None
    ) -> tuple[Tensor, GILRLSTMState]:
        check_sequence(x, self.width, reset)
        shape = {"B": len(x), "H": self.hidden_size}
        check_state(state, GILRLSTMState, h=shape, c=shape)
        state = self.initial_state(len(x)) if state is None else state
        h, h_last = walk("forget/tanh", self.surrogate(x), state.h, reset)
        (before, _), _ = recent(h, 2, state.h[:, None].to(h.dtype), reset)
        gates = self.projection(torch.cat([before, x.to(before.dtype)], dim=-1))
        y, c_last = channelwise("qrnn_ifo/tanh", gates, state.c, reset)
        return self.down(y), GILRLSTMState(h_last, c_last)

    def initial_state(self, batch_size: int) -> GILRLSTMState:
        c = fresh(self.down.weight, batch_size, self.hidden_size)
        return GILRLSTMState(torch.zeros_like(c), c)
