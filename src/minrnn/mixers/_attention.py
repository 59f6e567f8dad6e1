from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..fused import Linear
from ..recurrence import choose
from ._contract import Mixer, check_sequence, check_state, exempt_from_weight_decay

POSITIONS = ("rotary", "alibi", None)
BLOCK = 1024  # queries that are masked at once, so that no mask is T x T
SHORTEST_BLOCK = 64  # of windowed attention


class AttentionState(NamedTuple):
    """The cache of attention: what later steps may look back at."""

    keys: Tensor  # (B, L, heads, head width), not rotated; zeros where not visible
    values: Tensor  # (B, L, heads, head width)
    visible: Tensor  # (B, L) bool: belongs to the newest sequence of its row


class AttentionMixer(Mixer):
    """Causal softmax attention (arXiv 1706.03762, section 3.2) with a cache of keys and values.

    y_t = W_down sum_j softmax_j(q_t . k_j / sqrt(d) + bias_tj) v_j over j <= t, of the sequence of t

    The state grows by one key and one value a step, so a step costs as much as there were steps; with a window it has
    window - 1 of them, always.

    Args:
        width: D.
        heads: D must be a multiple. Default: as many as leave 64 for each, if they fit.
        positions: "rotary" turns queries and keys (arXiv 2104.09864, base 10,000), "alibi" adds -2^(-8 n / heads)
            (t - j) for head n (arXiv 2108.12409), None leaves order to the causal mask. Default "rotary".
        window: newest steps that a step sees, itself included. Default none: all.
        bias: biases of the projections. Default False.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int | None = None,
        positions: str | None = "rotary",
        window: int | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.width, self.positions, self.window = width, positions, window
        self.heads = heads if heads is not None else max(1, width // 64 if width % 64 == 0 else 1)
        if self.heads < 1 or width % self.heads:
            raise ValueError(f"heads is {heads}; expected a divisor of the width {width}")
        if positions not in POSITIONS:
            raise ValueError(f"positions is {positions!r}; expected one of {', '.join(map(repr, POSITIONS))}")
        if positions == "rotary" and width // self.heads % 2:
            raise ValueError(
                f"heads are {width // self.heads} wide; expected an even width, as rotary positions turn pairs"
            )
        if window is not None and window < 1:
            raise ValueError(f"window is {window}; expected 1 step or more, or none")
        self.constant_state = window is not None
        self.projection = Linear(width, 3 * width, bias=bias)  # queries, keys, values
        self.down = Linear(width, width, bias=bias)
        for part in (self.projection, self.down):
            torch.nn.init.normal_(part.weight, std=width**-0.5)
            if bias:
                torch.nn.init.zeros_(part.bias)
                exempt_from_weight_decay(part.bias)

    def forward(
        self, x: Tensor, state: AttentionState | None = None, *, reset: Tensor | None = None
    ) -> tuple[Tensor, AttentionState]:
        check_sequence(x, self.width, reset)
        q, k, v = self.projection(x).view(*x.shape[:2], 3, self.heads, self.width // self.heads).unbind(dim=2)
        y, state = attend(q, k, v, state, reset, positions=self.positions, window=self.window)
        return self.down(y.flatten(2)), state

    def initial_state(self, batch_size: int) -> AttentionState:
        return empty_cache(self.down.weight, batch_size, self.heads, self.width // self.heads, self.window)

    def concatenate_rows(self, states: Sequence[AttentionState]) -> AttentionState:
        return concatenate_caches(states)


def empty_cache(like: Tensor, B: int, heads: int, head_width: int, window: int | None = None) -> AttentionState:
    """The state before the first step, in the dtype of `like`."""
    L = 0 if window is None else window - 1
    keys = like.new_zeros(B, L, heads, head_width)
    return AttentionState(keys, torch.zeros_like(keys), keys.new_zeros(B, L, dtype=torch.bool))


def concatenate_caches(states: Sequence[AttentionState]) -> AttentionState:
    """Of a batch from its parts; short caches get invisible steps in front."""
    L = max(state.visible.shape[1] for state in states)
    padded = []
    for state in states:
        short = L - state.visible.shape[1]
        padded.append([F.pad(tensor, (0,) * (2 * tensor.dim() - 4) + (short, 0)) for tensor in state])
    return AttentionState(*(torch.cat(tensors) for tensors in zip(*padded, strict=True)))


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    state: AttentionState | None,
    reset: Tensor | None,
    *,
    positions: str | None = None,
    window: int | None = None,
) -> tuple[Tensor, AttentionState]:
    """Causal attention of q, k, v (B, T, heads, head width) behind what the state remembers -> (B, T, heads, head
    width) and the next state.
    """
    B, T, heads, width = q.shape
    L = state.keys.shape[1] if window is None and isinstance(state, AttentionState) else (window or 1) - 1
    cache = {"B": B, "L": L, "heads": heads, "head width": width}
    check_state(state, AttentionState, keys=cache, values=cache, visible={"B": B, "L": L})
    fresh = state is None and window is None
    state = empty_cache(k, B, heads, width, window) if state is None else state
    keys, values = torch.cat([state.keys.to(k.dtype), k], dim=1), torch.cat([state.values.to(v.dtype), v], dim=1)
    number = torch.zeros(B, T, dtype=torch.int64, device=q.device) if reset is None else reset.cumsum(dim=1)
    # Of every step the sequence that it belongs to: 0 goes on from the state, -1 was over before.
    sequence = torch.cat([state.visible.long() - 1, number], dim=1)  # (B, L + T)
    if positions == "rotary":
        at = torch.arange(L + T, device=q.device)
        turned_q, turned_keys = rotated(q, at[L:]), rotated(keys, at)
    else:
        turned_q, turned_keys = q, keys
    slopes = None
    if positions == "alibi":
        slopes = 2.0 ** (-8.0 / heads * torch.arange(1, heads + 1, device=q.device, dtype=q.dtype))
    if q.numel() == 0:
        y = v
    elif choose(q.device) == "definition":
        y = _definition(turned_q, turned_keys, values, sequence, slopes, window)
    elif fresh and reset is None and slopes is None:
        y = _attention(turned_q, turned_keys, values, is_causal=True)
    elif window is not None and T > SHORTEST_BLOCK:
        y = _windowed(turned_q, turned_keys, values, sequence, slopes, window)
    else:
        y = _masked(turned_q, turned_keys, values, sequence, slopes, window)
    visible = sequence == (number[:, -1:] if T else 0)
    if reset is not None:
        keys, values = (torch.where(visible[..., None, None], tensor, 0) for tensor in (keys, values))
    if window is not None:
        keys, values, visible = (tensor[:, tensor.shape[1] - L :].clone() for tensor in (keys, values, visible))
    return y, AttentionState(keys, values, visible)


def rotated(x: Tensor, at: Tensor) -> Tensor:
    """x (B, T, heads, d), whose pairs (n, n + d/2) turn by at_t 10,000^(-2n/d) (arXiv 2104.09864, equation 34). Only
    differences count, so any cache may count from its own first step.
    """
    d = x.shape[-1]
    speeds = 10_000.0 ** (torch.arange(0, d, 2, device=x.device, dtype=torch.float64) / -d)
    angles = (at[:, None] * speeds)[:, None]  # (T, 1, d/2)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def _definition(
    q: Tensor, keys: Tensor, values: Tensor, sequence: Tensor, slopes: Tensor | None, window: int | None
) -> Tensor:
    """One step after the other; sequence (B, L + T) says which steps belong together."""
    T, L = q.shape[1], keys.shape[1] - q.shape[1]
    outputs = []
    for t in range(L, L + T):
        first = 0 if window is None else t - window + 1
        past = slice(first, t + 1)
        scores = torch.einsum("bhd,bjhd->bhj", q[:, t - L], keys[:, past]) * q.shape[-1] ** -0.5
        if slopes is not None:
            scores = scores - slopes[:, None] * (t - torch.arange(first, t + 1, device=q.device))
        apart = sequence[:, past] != sequence[:, t : t + 1]
        weights = scores.masked_fill(apart[:, None], -torch.inf).softmax(dim=-1)
        outputs.append(torch.einsum("bhj,bjhd->bhd", weights, values[:, past]))
    return torch.stack(outputs, dim=1)


def _masked(
    q: Tensor, keys: Tensor, values: Tensor, sequence: Tensor, slopes: Tensor | None, window: int | None
) -> Tensor:
    """Blocks of queries, each with all keys before it."""
    T, L = q.shape[1], keys.shape[1] - q.shape[1]
    at = torch.arange(L + T, device=q.device)
    outputs = []
    for start in range(L, L + T, BLOCK):
        stop = min(start + BLOCK, L + T)
        distance = at[start:stop, None] - at[:stop]
        mask = _mask(distance, sequence[:, start:stop], sequence[:, :stop], slopes, window)
        outputs.append(_attention(q[:, start - L : stop - L], keys[:, :stop], values[:, :stop], attn_mask=mask))
    return torch.cat(outputs, dim=1)


def _windowed(q: Tensor, keys: Tensor, values: Tensor, sequence: Tensor, slopes: Tensor | None, window: int) -> Tensor:
    """Blocks of queries as long as the window, each with the keys of the block before it and its own: linear in T."""
    B, T = q.shape[:2]
    size = max(window, SHORTEST_BLOCK)
    N = -(-T // size)
    front, back = size - (window - 1), N * size - T  # what makes whole blocks of the cache and of the steps

    def pairs(x: Tensor) -> Tensor:
        before, own = (part.reshape(B * N, size, *x.shape[2:]) for part in (x[:, :-size], x[:, size:]))
        return torch.cat([before, own], dim=1)  # (B * N, 2 * size, ...)

    padded = F.pad(sequence, (front, back), value=-2)
    seen = pairs(padded)
    at = torch.arange(2 * size, device=q.device)
    mask = _mask(at[size:, None] - at, seen[:, size:], seen, slopes, window)
    queries = F.pad(q, (0, 0, 0, 0, 0, back)).reshape(B * N, size, *q.shape[2:])
    keys, values = (pairs(F.pad(tensor, (0, 0, 0, 0, front, back))) for tensor in (keys, values))
    return _attention(queries, keys, values, attn_mask=mask).reshape(B, N * size, *q.shape[2:])[:, :T]


def _mask(distance: Tensor, of_query: Tensor, of_key: Tensor, slopes: Tensor | None, window: int | None) -> Tensor:
    """(B, 1, queries, keys) bool, or with slopes what is added to the scores, (B, heads, queries, keys)."""
    near = distance >= 0 if window is None else (distance >= 0) & (distance < window)
    mask = (near & (of_query[:, :, None] == of_key[:, None]))[:, None]
    return mask if slopes is None else torch.where(mask, -slopes[:, None, None] * distance, -torch.inf)


def _attention(q: Tensor, keys: Tensor, values: Tensor, **mask: Any) -> Tensor:
    y = F.scaled_dot_product_attention(q.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2), **mask)
    return y.transpose(1, 2)
