from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..fused import Linear
from ..recurrence import channelwise
from ._attention import AttentionState, attend, concatenate_caches, empty_cache
from ._contract import Mixer, check_sequence, check_state, exempt_from_weight_decay
from ._minimal import fresh, unit_variance


class SRUppState(NamedTuple):
    """What an SRU++ carries: the state of the recurrence and the cache of its attention."""

    c: Tensor  # (B, D), float32 or float64
    keys: Tensor  # (B, L, heads, head width)
    values: Tensor  # (B, L, heads, head width)
    visible: Tensor  # (B, L) bool: belongs to the newest sequence of its row


class SRUppMixer(Mixer):
    """SRU with causal attention in place of its linear map (arXiv 2102.12459, section 3.1).

    Q = W_q x; K = W_k Q; V = W_v Q; U = W_o LayerNorm(Q + a Attention(Q, K, V)), a = 0 at the start;
    then version 2 of SRU with U_f, U_r and U_c for W_f x, W_r x and W x: see `SRUMixer`; y = W_down h

    Attention has no positions: order is the recurrence's. W_down is not of the source, whose layers end with h. The
    state grows with the sequence, as attention's does.

    Args:
        width: D.
        projection: width of Q, K and V, a multiple of heads. Default D / 4, as in the paper, rounded up to one.
        heads: of the attention. Default 1, as in the paper.
        highway_bias: b_r at the start. Default 0.
    """

    constant_state = False
    alpha: Tensor

    def __init__(self, width: int, *, projection: int | None = None, heads: int = 1, highway_bias: float = 0.0) -> None:
        if heads < 1:
            raise ValueError(f"heads is {heads}; expected 1 or more")
        inner = -(-width // (4 * heads)) * heads if projection is None else projection
        if inner < 1 or inner % heads:
            raise ValueError(f"projection is {projection}; expected a multiple of heads = {heads}")
        super().__init__()
        self.width, self.heads, self.inner = width, heads, inner
        self.query = Linear(width, inner, bias=False)
        self.key_value = Linear(inner, 2 * inner, bias=False)
        self.norm = nn.LayerNorm(inner)
        self.rezero = nn.Parameter(torch.zeros(1))  # a
        self.out = Linear(inner, 3 * width)  # W_o, and b_f, b_r: [forget | reset | candidate]
        self.recurrent = nn.Parameter(torch.empty(2, width).uniform_(-math.sqrt(1.5), math.sqrt(1.5)))  # v_f, v_r
        self.register_buffer("alpha", torch.full((1, width), math.sqrt(1 + 2 * math.exp(highway_bias))))
        self.down = Linear(width, width)
        for part in (self.query, self.key_value, self.out, self.down):
            unit_variance(part)
        with torch.no_grad():
            self.out.weight[: 2 * width] *= math.sqrt(0.5)  # gates of half the candidates' variance, as in SRU
            self.out.bias.zero_()
            self.out.bias[width : 2 * width] = highway_bias
        exempt_from_weight_decay(*self.norm.parameters(), self.rezero, self.out.bias, self.recurrent, self.down.bias)

    def forward(
        self, x: Tensor, state: SRUppState | None = None, *, reset: Tensor | None = None
    ) -> tuple[Tensor, SRUppState]:
        check_sequence(x, self.width, reset)
        check_state(state, SRUppState, c={"B": len(x), "D": self.width})
        q = self.query(x)
        k, v = self.key_value(q).chunk(2, dim=-1)
        q_heads, k, v = (tensor.reshape(*q.shape[:2], self.heads, self.inner // self.heads) for tensor in (q, k, v))
        attended, cache = attend(q_heads, k, v, None if state is None else AttentionState(*state[1:]), reset)
        u = self.out(self.norm(q + self.rezero * attended.flatten(2)))
        parameters = torch.cat([self.recurrent, self.alpha.to(self.recurrent.dtype)])
        h, c = channelwise(
            "sru", u, None if state is None else state.c, reset, extra=x.to(u.dtype), parameters=parameters
        )
        return self.down(h), SRUppState(c, *cache)

    def initial_state(self, batch_size: int) -> SRUppState:
        cache = empty_cache(self.down.weight, batch_size, self.heads, self.inner // self.heads)
        return SRUppState(fresh(self.down.weight, batch_size, self.width), *cache)

    def concatenate_rows(self, states: Sequence[SRUppState]) -> SRUppState:
        cache = concatenate_caches([AttentionState(*state[1:]) for state in states])
        return SRUppState(torch.cat([state.c for state in states]), *cache)
