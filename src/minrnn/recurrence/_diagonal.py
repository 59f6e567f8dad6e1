"""The recurrence of a diagonal state space."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..kernels import diagonal
from ._fused import fused


def diagonal_scan(
    u: Tensor, a: Tensor, c: Tensor, d: Tensor, state: Tensor, reset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """s_t = a s_{t-1} + u_t, y_t = Re sum c s_t + d u_t (arXiv 2206.11893), where every channel has M complex states.
    Arguments are trusted: mixers check them.

    Args:
        u: (B, T, E)
        a, c: (2 * M, E), real parts before imaginary ones; in the dtype of the state, as d and the state are.
        d: (E,)
        state: before the first step, (B, 2 * M, E), float32 or float64.
        reset: (B, T) bool; the state is zeroed before step t where it is true.

    Returns:
        y (B, T, E) in the dtype of u; the last state, (B, 2 * M, E).
    """
    return _fused(u, a, c, d, state, reset=reset)


def _definition(
    u: Tensor, a: Tensor, c: Tensor, d: Tensor, state: Tensor, *, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The loop over time that the kernels must agree with."""
    dtype, u = u.dtype, u.to(state.dtype)
    a_re, a_im = a.chunk(2)
    re, im = state.chunk(2, dim=1)
    outputs = []
    for t in range(u.shape[1]):
        if reset is not None:
            re, im = (torch.where(reset[:, t, None, None], 0, part) for part in (re, im))
        re, im = a_re * re - a_im * im + u[:, t, None], a_im * re + a_re * im
        c_re, c_im = c.chunk(2)
        outputs.append((c_re * re - c_im * im).sum(dim=1) + d * u[:, t])
    y = torch.stack(outputs, dim=1) if outputs else torch.zeros_like(u)
    return y.to(dtype), torch.cat([re, im], dim=1)


def _sizes(tensors: Sequence[Tensor]) -> tuple[int, int, int]:
    """T, E, M"""
    u, a, *_ = tensors
    return u.shape[1], u.shape[2], len(a) // 2


_fused = fused("diagonal", diagonal, _definition, ("row", "sequence", "sequence", "sequence"), _sizes)
