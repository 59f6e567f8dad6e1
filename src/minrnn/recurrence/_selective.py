"""The selective scan of Mamba."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..kernels import selective
from ._fused import fused


def selective_scan(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """h_t = exp(Delta_t A) h_{t-1} + Delta_t B_t x_t, y_t = C_t h_t + D x_t with Delta = softplus(delta) (arXiv
    2312.00752, section 3), where every channel has N states. Arguments are trusted: mixers check them. Nothing of
    B x T x E x N is stored.

    Args:
        x, delta: (B, T, E) of one dtype.
        A: (N, E), negative; in the dtype of the state, as D and the state are.
        B, C: (B, T, N), in the dtype of x.
        D: (E,)
        state: before the first step, (B, N, E), float32 or float64.
        reset: (B, T) bool; the state is zeroed before step t where it is true.

    Returns:
        y (B, T, E) in the dtype of x; the last state, (B, N, E).
    """
    return _fused(x, delta, A, B, C, D, state, reset=reset)


def _definition(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor, *, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The loop over time that the kernels must agree with."""
    h, dtype = state, x.dtype
    x, delta, B, C = (tensor.to(state.dtype) for tensor in (x, delta, B, C))
    delta = F.softplus(delta)
    outputs = []
    for t in range(x.shape[1]):
        if reset is not None:
            h = torch.where(reset[:, t, None, None], 0, h)
        h = torch.exp(delta[:, t, None] * A) * h + (delta[:, t] * x[:, t])[:, None] * B[:, t, :, None]
        outputs.append((C[:, t, :, None] * h).sum(dim=1) + D * x[:, t])
    y = torch.stack(outputs, dim=1) if outputs else torch.zeros_like(x)
    return y.to(dtype), h


def _sizes(tensors: Sequence[Tensor]) -> tuple[int, int, int]:
    """T, E, N"""
    x, _, A, *_ = tensors
    return x.shape[1], x.shape[2], len(A)


_fused = fused("selective", selective, _definition, ("row", "row", "sequence", "block", "block", "sequence"), _sizes)
