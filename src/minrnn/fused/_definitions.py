"""What each fused function *is*, in plain torch; every fast path must agree with this file, and other devices run
it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight"""
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + eps) * weight


def causal_conv(full: Tensor, weight: Tensor, bias: Tensor, reach: Tensor | None) -> Tensor:
    """full (B, W-1+T, D), weight (D, W), bias (D,), reach (B, T) -> y (B, T, D): y_t = bias + sum_w weight_w
    full_{t+w}.
    """
    W = weight.shape[1]
    T = full.shape[1] - (W - 1)
    y = bias.expand(full.shape[0], T, -1)
    for w in range(W):
        term = weight[:, w] * full[:, w : w + T]
        y = y + (term if reach is None else torch.where(reach[..., None] >= W - 1 - w, term, 0))
    return y


def gelu_dropout(x: Tensor, factor: Tensor) -> Tensor:
    """GELU in its tanh form (arXiv 1606.08415, section 2), times the factors of dropout: 0, or 1 / (1 - p)."""
    return F.gelu(x, approximate="tanh") * factor


GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "gelu": lambda x: F.gelu(x, approximate="tanh"),
}


def gated(x: Tensor, gate: Tensor, activation: str) -> Tensor:
    """x * act(gate)"""
    return x * GATES[activation](gate)


def block_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y of matrix n, head h: weight[n, h] times the part of x that head h sees."""
    parts = x.reshape(*x.shape[:-1], weight.shape[1], weight.shape[3])
    y = torch.einsum("...hi,nhoi->...nho", parts, weight).flatten(-3)
    return y if bias is None else y + bias
