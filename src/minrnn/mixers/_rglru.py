from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..fused import BlockLinear, Linear, causal_conv, gated
from ..recurrence import channelwise
from ._contract import Mixer, check_sequence, check_state, exempt_from_weight_decay
from ._minimal import expanded, fresh, unit_variance


class RGLRUState(NamedTuple):
    """What an RG-LRU block carries."""

    h: Tensor  # (B, H), float32 or float64
    seen: Tensor  # (B, H), 0 before the first step of a sequence and 1 after it
    window: Tensor  # the last conv - 1 inputs of the convolution, (B, conv - 1, H)


class RGLRUMixer(Mixer):
    """The recurrent block of Griffin around its real-gated linear recurrent unit (arXiv 2402.19427, section 2.4).

    u = Conv(W_x x); r_t = sigmoid(W_a u_t + b_a); i_t = sigmoid(W_i u_t + b_i); a_t = exp(-8 softplus(Lambda) r_t);
    h_t = a_t h_{t-1} + sqrt(1 - a_t^2) i_t u_t; y = W_down (GELU(W_y x) h)

    W_a and W_i are block-diagonal. The first step of a sequence is not scaled by the root, as in the authors' code, so
    a state says whether there was one: None, a reset and `initial_state` start alike, and differ from an h of zeros
    that was reached.

    Args:
        width: D.
        expansion: hidden width H = round(expansion * D). Default 1; the paper has 4/3.
        heads: blocks of W_a and W_i; H must be a multiple. Default: as many as leave blocks of 64, if they fit.
        conv: steps that the convolution sees. Default 4.
    """

    def __init__(self, width: int, *, expansion: float = 1.0, heads: int | None = None, conv: int = 4) -> None:
        super().__init__()
        self.width, self.hidden_size = width, expanded(width, expansion)
        H = self.hidden_size
        self.heads = heads if heads is not None else max(1, H // 64 if H % 64 == 0 else 1)
        if self.heads < 1 or H % self.heads:
            raise ValueError(f"heads is {heads}; expected a divisor of the hidden width H = {H}")
        if conv < 1:
            raise ValueError(f"conv is {conv}; expected 1 step or more")
        self.projection = Linear(width, 2 * H)  # [branch of the recurrence | gate]
        bound = conv**-0.5
        self.conv_weight = nn.Parameter(torch.empty(H, conv).uniform_(-bound, bound))
        self.conv_bias = nn.Parameter(torch.zeros(H))
        self.gates = BlockLinear(H, matrices=2, heads=self.heads)  # W_a, W_i
        # exp(-softplus(Lambda)), the factor of an open gate's eighth part, is the root of U(0.9^2, 0.999^2).
        factor = torch.empty(H).uniform_(0.9**2, 0.999**2).sqrt()
        self.rate = nn.Parameter(torch.expm1(-factor.log()).log())  # Lambda
        self.down = Linear(H, width)
        for part in (self.projection, self.down):
            unit_variance(part)
            exempt_from_weight_decay(part.bias)
        exempt_from_weight_decay(self.conv_weight, self.conv_bias, *self.gates.parameters(), self.rate)

    def forward(
        self, x: Tensor, state: RGLRUState | None = None, *, reset: Tensor | None = None
    ) -> tuple[Tensor, RGLRUState]:
        check_sequence(x, self.width, reset)
        B, H, W = len(x), self.hidden_size, self.conv_weight.shape[1]
        check_state(
            state, RGLRUState, h={"B": B, "H": H}, seen={"B": B, "H": H}, window={"B": B, "conv - 1": W - 1, "H": H}
        )
        branch, gate = self.projection(x).chunk(2, dim=-1)
        u, window = causal_conv(
            branch, self.conv_weight, self.conv_bias, None if state is None else state.window, reset
        )
        gates = self.gates(u)  # logits of r and i, (B, T, 2 * H)
        rate = 8 * F.softplus(self.rate)
        before = None if state is None else torch.cat([state.h, state.seen], dim=-1)
        h, last = channelwise("rglru", gates, before, reset, extra=u, parameters=rate[None])
        last_h, seen = last.chunk(2, dim=-1)
        return self.down(gated(h, gate, "gelu")), RGLRUState(last_h, seen, window)

    def initial_state(self, batch_size: int) -> RGLRUState:
        h = fresh(self.down.weight, batch_size, self.hidden_size)
        window = self.down.weight.new_zeros(batch_size, self.conv_weight.shape[1] - 1, self.hidden_size)
        return RGLRUState(h, torch.zeros_like(h), window)
