from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..fused import Linear, causal_conv, gated
from ..recurrence import selective_scan
from ._contract import Mixer, check_sequence, check_state, exempt_from_weight_decay
from ._minimal import expanded, fresh, unit_variance


class MambaState(NamedTuple):
    """What a Mamba block carries."""

    h: Tensor  # (B, N, E), float32 or float64
    window: Tensor  # the last conv - 1 inputs of the convolution, (B, conv - 1, E)


class MambaMixer(Mixer):
    """Mamba: a selective state space with its block (arXiv 2312.00752, section 3 and figure 3).

    (u, z) = W_in x; s = SiLU(Conv(u)); (r, B_t, C_t) = W_x s; delta = softplus(W_delta r + b);
    h_t = exp(delta A) h_{t-1} + delta B_t s_t, N numbers for each of E channels; v_t = C_t h_t + D s_t;
    y = W_down (v SiLU(z))

    Args:
        width: D.
        expansion: inner width E = round(expansion * D). Default 2.
        state: N, numbers in the state of a channel. Default 16.
        conv: steps that the convolution sees. Default 4.
        rank: of the map to delta. Default D / 16, rounded up.
    """

    def __init__(
        self, width: int, *, expansion: float = 2.0, state: int = 16, conv: int = 4, rank: int | None = None
    ) -> None:
        super().__init__()
        self.width, self.hidden_size, self.state = width, expanded(width, expansion), state
        self.rank = -(-width // 16) if rank is None else rank
        for name, value in (("state", state), ("conv", conv), ("rank", self.rank)):
            if value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more")
        E = self.hidden_size
        self.projection, self.gate = Linear(width, E, bias=False), Linear(width, E, bias=False)  # to u, to z
        bound = conv**-0.5
        self.conv_weight = nn.Parameter(torch.empty(E, conv).uniform_(-bound, bound))
        self.conv_bias = nn.Parameter(torch.empty(E).uniform_(-bound, bound))
        self.selection = Linear(E, self.rank + 2 * state, bias=False)  # [r | B | C]
        self.delta = Linear(self.rank, E)
        self.A_log = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(E, 1))  # (E, N); A = -exp(A_log)
        self.D = nn.Parameter(torch.ones(E))
        self.down = Linear(E, width, bias=False)
        for part in (self.projection, self.gate, self.selection, self.down):
            unit_variance(part)
        nn.init.uniform_(self.delta.weight, -(self.rank**-0.5), self.rank**-0.5)
        with torch.no_grad():  # softplus(b) is log-uniform in [0.001, 0.1]
            step = torch.empty(E).uniform_(math.log(1e-3), math.log(1e-1)).exp()
            self.delta.bias.copy_(step.expm1().log())
        exempt_from_weight_decay(self.conv_weight, self.conv_bias, self.delta.bias, self.A_log, self.D)

    def forward(
        self, x: Tensor, state: MambaState | None = None, *, reset: Tensor | None = None
    ) -> tuple[Tensor, MambaState]:
        check_sequence(x, self.width, reset)
        B, E, N, W = len(x), self.hidden_size, self.state, self.conv_weight.shape[1]
        check_state(state, MambaState, h={"B": B, "N": N, "E": E}, window={"B": B, "conv - 1": W - 1, "E": E})
        state = self.initial_state(B) if state is None else state
        u, z = self.projection(x), self.gate(x)
        conv, window = causal_conv(u, self.conv_weight, self.conv_bias, state.window.to(u.dtype), reset)
        s = F.silu(conv)
        r, B_t, C_t = self.selection(s).split([self.rank, N, N], dim=-1)
        delta = self.delta(r)
        A = -self.A_log.to(state.h.dtype).exp().T
        v, h = selective_scan(
            s, delta.to(s.dtype), A, B_t.to(s.dtype), C_t.to(s.dtype), self.D.to(A.dtype), state.h, reset
        )
        return self.down(gated(v.to(z.dtype), z, "silu")), MambaState(h, window)

    def initial_state(self, batch_size: int) -> MambaState:
        h = fresh(self.down.weight, batch_size, self.state, self.hidden_size)
        window = self.down.weight.new_zeros(batch_size, self.conv_weight.shape[1] - 1, self.hidden_size)
        return MambaState(h, window)
