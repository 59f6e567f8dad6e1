from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..fused import Linear, causal_conv, gated, rms_norm
from ..recurrence import choose
from ._chunks import chunked, joined, together
from ._contract import Mixer, check_sequence, check_state, exempt_from_weight_decay
from ._minimal import fresh, unit_variance


class DeltaNetState(NamedTuple):
    """What a gated DeltaNet carries."""

    S: Tensor  # (B, heads, value width, key width), float32 or float64
    window: Tensor  # the last conv - 1 inputs of the convolution, (B, conv - 1, 3 * D)


class GatedDeltaNetMixer(Mixer):
    """Gated DeltaNet (arXiv 2412.06464, section 3): a matrix that unlearns what it has under a key before it learns.

    q, k, v = SiLU(Conv(W x)), q and k of length 1; alpha = exp(-exp(A) softplus(W_a x + b_a));
    beta = sigmoid(W_b x), times 2 if negative;
    S_t = alpha_t S_{t-1} (I - beta_t k_t k_t^T) + beta_t v_t k_t^T; o_t = S_t q_t;
    y = W_down (RMSNorm(o) SiLU(W_g x))

    With beta up to 2 the eigenvalues of the transition reach -1, so that it can track states (arXiv 2411.12537).

    Args:
        width: D.
        heads: D must be a multiple. Default: as many as leave 64 for each, if they fit.
        negative: beta up to 2. Default True; the source has 1.
        conv: steps that the convolution sees. Default 4.
        chunk: steps that are worked through as matrix products at once. Default 64.
    """

    def __init__(
        self, width: int, *, heads: int | None = None, negative: bool = True, conv: int = 4, chunk: int = 64
    ) -> None:
        super().__init__()
        self.width, self.negative, self.chunk = width, negative, chunk
        self.heads = heads if heads is not None else max(1, width // 64 if width % 64 == 0 else 1)
        if self.heads < 1 or width % self.heads:
            raise ValueError(f"heads is {heads}; expected a divisor of the width {width}")
        for name, value in (("conv", conv), ("chunk", chunk)):
            if value < 1:
                raise ValueError(f"{name} is {value}; expected 1 step or more")
        self.projection = Linear(width, 3 * width, bias=False)  # [queries | keys | values]
        bound = conv**-0.5
        self.conv_weight = nn.Parameter(torch.empty(3 * width, conv).uniform_(-bound, bound))
        self.conv_bias = nn.Parameter(torch.zeros(3 * width))
        self.rates = Linear(width, 2 * self.heads)  # [alpha | beta]
        self.decay = nn.Parameter(torch.empty(self.heads).uniform_(0, 16).clamp(min=1e-3).log())  # A
        self.gate = Linear(width, width, bias=False)
        self.norm_weight = nn.Parameter(torch.ones(width // self.heads))
        self.down = Linear(width, width, bias=False)
        for part in (self.projection, self.rates, self.gate, self.down):
            unit_variance(part)
        with torch.no_grad():  # softplus(b_a) is log-uniform in [0.001, 0.1], as Mamba's step
            step = torch.empty(self.heads).uniform_(math.log(1e-3), math.log(1e-1)).exp()
            self.rates.bias.zero_()
            self.rates.bias[: self.heads] = step.expm1().log()
        exempt_from_weight_decay(self.conv_weight, self.conv_bias, self.rates.bias, self.decay, self.norm_weight)

    def forward(
        self, x: Tensor, state: DeltaNetState | None = None, *, reset: Tensor | None = None
    ) -> tuple[Tensor, DeltaNetState]:
        check_sequence(x, self.width, reset)
        B, T, D = x.shape
        heads, d, W = self.heads, D // self.heads, self.conv_weight.shape[1]
        shapes = {"S": {"B": B, "heads": heads, "value width": d, "key width": d}}
        check_state(state, DeltaNetState, **shapes, window={"B": B, "conv - 1": W - 1, "3 * D": 3 * D})
        state = self.initial_state(B) if state is None else state
        qkv, window = causal_conv(self.projection(x), self.conv_weight, self.conv_bias, state.window.to(x.dtype), reset)
        S = state.S
        q, k, v = F.silu(qkv).to(S.dtype).view(B, T, 3, heads, d).unbind(dim=2)
        q, k = (F.normalize(vectors, dim=-1, eps=1e-6) for vectors in (q, k))
        alpha, beta = self.rates(x).to(S.dtype).chunk(2, dim=-1)  # (B, T, heads)
        log_alpha = -self.decay.to(S.dtype).exp() * F.softplus(alpha)
        beta = beta.sigmoid() * (2 if self.negative else 1)
        with torch.autocast(x.device.type, enabled=False):  # the state is float32
            if T == 1 or choose(x.device) == "definition":
                o, S = _definition(q, k, v, log_alpha, beta, S, reset)
            else:
                o, S = _chunkwise(q, k, v, log_alpha, beta, S, reset, min(self.chunk, max(T, 1)))
        o = rms_norm(o.to(x.dtype), self.norm_weight.to(x.dtype)).reshape(B, T, D)
        gate = self.gate(x)
        return self.down(gated(o.to(gate.dtype), gate, "silu")), DeltaNetState(S, window)

    def initial_state(self, batch_size: int) -> DeltaNetState:
        d, W = self.width // self.heads, self.conv_weight.shape[1]
        window = self.down.weight.new_zeros(batch_size, W - 1, 3 * self.width)
        return DeltaNetState(fresh(self.down.weight, batch_size, self.heads, d, d), window)


def _definition(
    q: Tensor, k: Tensor, v: Tensor, log_alpha: Tensor, beta: Tensor, S: Tensor, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    """q, k, v (B, T, heads, d), log_alpha and beta (B, T, heads), S (B, heads, d, d), one step after the other."""
    outputs = []
    for t in range(q.shape[1]):
        if reset is not None:
            S = torch.where(reset[:, t, None, None, None], 0, S)
        S = log_alpha[:, t, :, None, None].exp() * S
        written = beta[:, t, :, None] * (v[:, t] - torch.einsum("bhvk,bhk->bhv", S, k[:, t]))
        S = S + written[..., None] * k[:, t, :, None]
        outputs.append(torch.einsum("bhvk,bhk->bhv", S, q[:, t]))
    return torch.stack(outputs, dim=1) if outputs else torch.zeros_like(v), S


def _chunkwise(
    q: Tensor, k: Tensor, v: Tensor, log_alpha: Tensor, beta: Tensor, S: Tensor, reset: Tensor | None, C: int
) -> tuple[Tensor, Tensor]:
    """The same by chunks of C steps (section 3.3 of the paper).

    With g the logarithm of all decay since the chunk began, S_i = e^{g_i} S_0 + sum_{j <= i} e^{g_i - g_j} u_j k_j^T,
    where the u solve a triangular system: u_i = beta_i (v_i - e^{g_i} S_0 k_i - sum_{j < i}
    e^{g_i - g_j} (k_j . k_i) u_j).
    """
    T = q.shape[1]
    pairs, goes_on = together(reset, T, C, q.device)
    q, k, v, beta = (chunked(tensor, C) for tensor in (q, k, v, beta[..., None]))  # (B, heads, N, C, ...)
    g = chunked(log_alpha, C).cumsum(dim=-1)  # (B, heads, N, C)
    decay = torch.where(pairs, g[..., :, None] - g[..., None, :], -torch.inf).exp()  # e^{g_i - g_j}
    carried = torch.where(goes_on, g, -torch.inf).exp()[..., None]  # e^{g_i}, zero after a reset
    system = beta * decay * (k @ k.mT)  # its diagonal is taken for ones
    solved = torch.linalg.solve_triangular(
        system, torch.cat([beta * v, beta * carried * k], dim=-1), upper=False, unitriangular=True
    )
    of_v, of_k = solved.chunk(2, dim=-1)  # u = of_v - of_k S_0^T
    k_last = decay[..., -1, :, None] * k  # as the end of the chunk remembers them
    # From chunk to chunk S_C^T = transition S_0^T + inflow.
    transition = carried[..., -1:, :] * torch.eye(k.shape[-1], dtype=k.dtype, device=k.device) - k_last.mT @ of_k
    inflow = k_last.mT @ of_v
    S = S.mT
    before = []
    for over, new in zip(transition.unbind(dim=2), inflow.unbind(dim=2), strict=True):
        before.append(S)
        S = over @ S + new
    S_0 = torch.stack(before, dim=2)  # (B, heads, N, key width, value width)
    u = of_v - of_k @ S_0
    o = carried * (q @ S_0) + (decay * (q @ k.mT)) @ u
    return joined(o, T), S.mT
