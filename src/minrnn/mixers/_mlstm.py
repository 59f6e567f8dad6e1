from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..fused import BlockLinear, Linear, causal_conv, gated
from ..recurrence import choose
from ._chunks import chunked, joined, together
from ._contract import Mixer, check_sequence, check_state, exempt_from_weight_decay
from ._minimal import expanded, fresh, unit_variance

EPSILON = 1e-6  # what the authors' code adds to the denominator


class MLSTMState(NamedTuple):
    """What an mLSTM carries; C and n are scaled by e^{-m}."""

    C: Tensor  # (B, heads, key width, value width), float32 or float64
    n: Tensor  # (B, heads, key width)
    m: Tensor  # (B, heads)
    window: Tensor  # the last conv - 1 inputs of the convolution, (B, conv - 1, H)


class MLSTMMixer(Mixer):
    """mLSTM, the xLSTM with a matrix for a memory, with its block (arXiv 2405.04517, equations 19 to 27).

    (u, z) = W_up x; s = SiLU(Conv(u)); q, k = W_q s, W_k s / sqrt(d), v = W_v u; i, f = W_if [q, k, v] + b, by head;
    m_t = max(log sigmoid(f) + m_{t-1}, i); f' = exp(log sigmoid(f) + m_{t-1} - m_t), i' = exp(i - m_t);
    C_t = f' C_{t-1} + i' k v^T; n_t = f' n_{t-1} + i' k; h_t = C_t^T q / max(|n_t . q|, e^{-m_t});
    y = W_down ((Norm(h) + w s) SiLU(z)), Norm by head

    m keeps the exponentials in range and cancels out of h, so no gradient goes through it. W_q, W_k and W_v are
    block-diagonal.

    Args:
        width: D.
        heads: the inner width must be a multiple. Default 4.
        expansion: inner width H = round(expansion * D). Default 2.
        block: width of the blocks of W_q, W_k and W_v. Default 4.
        conv: steps that the convolution sees. Default 4.
        chunk: steps that are worked through as matrix products at once. Default 64.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int = 4,
        expansion: float = 2.0,
        block: int = 4,
        conv: int = 4,
        chunk: int = 64,
    ) -> None:
        super().__init__()
        self.width, self.hidden_size, self.heads, self.chunk = width, expanded(width, expansion), heads, chunk
        H = self.hidden_size
        for name, value in (("heads", heads), ("block", block)):
            if value < 1 or H % value:
                raise ValueError(f"{name} is {value}; expected a divisor of the inner width H = {H}")
        for name, value in (("conv", conv), ("chunk", chunk)):
            if value < 1:
                raise ValueError(f"{name} is {value}; expected 1 step or more")
        self.up = Linear(width, 2 * H)  # [u | z]
        bound = conv**-0.5
        self.conv_weight = nn.Parameter(torch.empty(H, conv).uniform_(-bound, bound))
        self.conv_bias = nn.Parameter(torch.zeros(H))
        self.query_key = BlockLinear(H, matrices=2, heads=H // block)
        self.value = BlockLinear(H, heads=H // block)
        self.gates = Linear(2 * H, 2 * heads)  # of [q, k], and their bias: [input | forget]
        self.gates_of_value = Linear(H, 2 * heads, bias=False)
        self.norm_weight = nn.Parameter(torch.ones(H))
        self.skip = nn.Parameter(torch.ones(H))
        self.down = Linear(H, width)
        for weight in (self.up.weight, self.query_key.weight, self.value.weight):
            nn.init.normal_(weight, std=(2 / (5 * width)) ** 0.5)
        unit_variance(self.down)
        for part in (self.up, self.down):
            nn.init.zeros_(part.bias)
            exempt_from_weight_decay(part.bias)
        with torch.no_grad():
            self.gates.weight.zero_()
            self.gates_of_value.weight.zero_()
            self.gates.bias[:heads].normal_(std=0.1)
            self.gates.bias[heads:] = torch.linspace(3, 6, heads)
        exempt_from_weight_decay(self.conv_weight, self.conv_bias, self.norm_weight, self.skip, self.gates.bias)
        exempt_from_weight_decay(self.query_key.bias, self.value.bias)

    def forward(
        self, x: Tensor, state: MLSTMState | None = None, *, reset: Tensor | None = None
    ) -> tuple[Tensor, MLSTMState]:
        check_sequence(x, self.width, reset)
        B, T, _ = x.shape
        H, heads, W = self.hidden_size, self.heads, self.conv_weight.shape[1]
        d = H // heads
        by_head = {"B": B, "heads": heads}
        check_state(
            state,
            MLSTMState,
            C=by_head | {"key width": d, "value width": d},
            n=by_head | {"key width": d},
            m=by_head,
            window={"B": B, "conv - 1": W - 1, "H": H},
        )
        state = self.initial_state(B) if state is None else state
        u, z = self.up(x).chunk(2, dim=-1)
        conv, window = causal_conv(u, self.conv_weight, self.conv_bias, state.window.to(u.dtype), reset)
        s = F.silu(conv)
        qk, v = self.query_key(s), self.value(u)
        gates = (self.gates(qk) + self.gates_of_value(v)).to(state.C.dtype)  # (B, T, 2 * heads)
        i, log_f = gates[..., :heads], F.logsigmoid(gates[..., heads:])
        q, k = qk.to(state.C.dtype).view(B, T, 2, heads, d).unbind(dim=2)
        v = v.to(state.C.dtype).view(B, T, heads, d)
        memory = torch.cat([state.C, state.n[..., None]], dim=-1)
        with torch.autocast(x.device.type, enabled=False):  # the state is float32
            ones = v.new_ones(B, T, heads, 1)  # whose sum is n
            arguments = (q, k * d**-0.5, torch.cat([v, ones], dim=-1), i, log_f, memory, state.m.detach(), reset)
            if T == 1 or choose(x.device) == "definition":
                h, memory, m = _definition(*arguments)
            else:
                h, memory, m = _chunkwise(*arguments, min(self.chunk, max(T, 1)))
        h = F.layer_norm(h, (d,)).reshape(B, T, H).to(s.dtype) * self.norm_weight.to(s.dtype)
        y = self.down(gated(h + self.skip.to(s.dtype) * s, z, "silu"))
        return y, MLSTMState(memory[..., :d].clone(), memory[..., d].clone(), m, window)

    def initial_state(self, batch_size: int) -> MLSTMState:
        H, heads, W = self.hidden_size, self.heads, self.conv_weight.shape[1]
        d = H // heads
        C = fresh(self.down.weight, batch_size, heads, d, d)
        window = self.down.weight.new_zeros(batch_size, W - 1, H)
        return MLSTMState(C, C.new_zeros(batch_size, heads, d), C.new_zeros(batch_size, heads), window)


def _divided(numerator: Tensor, m: Tensor) -> Tensor:
    """C q beside n . q in the last column -> h"""
    values, weight = numerator[..., :-1], numerator[..., -1:]
    return values / (torch.maximum(weight.abs(), torch.exp(-m)[..., None]) + EPSILON)


def _definition(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    log_f: Tensor,
    memory: Tensor,
    m: Tensor,
    reset: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """q, k (B, T, heads, d), v (B, T, heads, d + 1), i and log_f (B, T, heads), memory (B, heads, d, d + 1), which is C
    beside n, and m (B, heads), one step after the other.
    """
    outputs = []
    for t in range(q.shape[1]):
        if reset is not None:
            memory = torch.where(reset[:, t, None, None, None], 0, memory)
            m = torch.where(reset[:, t, None], 0, m)
        before, m = m, torch.maximum(log_f[:, t] + m, i[:, t]).detach()
        forget, input = torch.exp(log_f[:, t] + before - m), torch.exp(i[:, t] - m)
        written = (input[..., None] * k[:, t])[..., None] * v[:, t, :, None]
        memory = forget[..., None, None] * memory + written
        outputs.append(_divided(torch.einsum("bhkv,bhk->bhv", memory, q[:, t]), m))
    return torch.stack(outputs, dim=1) if outputs else torch.zeros_like(q), memory, m


def _chunkwise(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    log_f: Tensor,
    memory: Tensor,
    m: Tensor,
    reset: Tensor | None,
    C: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same by chunks of C steps."""
    T = q.shape[1]
    pairs, goes_on = together(reset, T, C, q.device)
    # Steps after the end forget and learn nothing.
    i = F.pad(i, (0, 0, 0, -T % C if T else C), value=-torch.inf)
    q, k, v, i, log_f = (chunked(tensor, C) for tensor in (q, k, v, i, log_f))  # (B, heads, N, C, ...)
    g = log_f.cumsum(dim=-1)
    weight = torch.where(pairs, g[..., :, None] - g[..., None, :] + i[..., None, :], -torch.inf)  # of step j at step i
    since = g - _before_sequence(g - log_f, reset, T, C)  # log decay since the sequence or the chunk began
    with torch.no_grad():
        largest = weight.amax(dim=-1)
        at_start = []
        for n in range(q.shape[2]):
            at_start.append(m)
            last = since[:, :, n, -1] + torch.where(goes_on[:, :, min(n, goes_on.shape[2] - 1), -1], m, 0)
            m = torch.maximum(last, largest[:, :, n, -1])
        m_0 = torch.stack(at_start, dim=2)[..., None]  # (B, heads, N, 1)
        stabiliser = torch.maximum(since + torch.where(goes_on, m_0, 0), largest)  # m of every step
    carried = torch.where(goes_on, since + m_0 - stabiliser, -torch.inf).exp()[..., None]
    weight = (weight - stabiliser[..., None]).exp()
    inflow = (weight[..., -1, :, None] * k).mT @ v
    before = []
    for kept, new in zip(carried[..., -1:, :].unbind(dim=2), inflow.unbind(dim=2), strict=True):
        before.append(memory)
        memory = kept * memory + new
    numerator = carried * (q @ torch.stack(before, dim=2)) + (weight * (q @ k.mT)) @ v
    return joined(_divided(numerator, stabiliser), T), memory, m


def _before_sequence(g: Tensor, reset: Tensor | None, T: int, C: int) -> Tensor:
    """g (B, heads, N, C) at the first step of each step's sequence in the chunk."""
    if reset is None:
        return g[..., :1]
    t = torch.arange(C, device=g.device)
    first = torch.where(chunked(reset[..., None].long(), C) > 0, t, 0).cummax(dim=-1).values
    return g.gather(-1, first.expand_as(g))
