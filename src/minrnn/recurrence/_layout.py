"""Layouts and dtypes that the fused implementations share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def rows(x: Tensor) -> Tensor:
    """x (B, T, ...) with rows of adjacent elements; copied only where they are not."""
    return x if x.stride(-1) == 1 else x.contiguous()


def empty_rows(x: Tensor, width: Any) -> Tensor:
    """An empty (B, T, width) in the memory order, batch-major or time-major, of x (B, T, ...)."""
    B, T = x.shape[:2]
    if x.stride(-1) == 1 and x.stride(0) < x.stride(1):
        return x.new_empty(T, B, width).transpose(0, 1)
    return x.new_empty(B, T, width)


def fresh_state(h: Tensor | None, B: int, H: int, like: Tensor) -> Tensor:
    """A fresh (B, H) state in float32, or float64 for float64 inputs."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    if h is None:
        return like.new_zeros(B, H, dtype=dtype)
    return h.detach().to(dtype=dtype, memory_format=torch.contiguous_format, copy=True)


def parts(name: str) -> tuple[str, str]:
    """ "mingru/tanh" -> ("mingru", "tanh"); "linear" has no activation."""
    step, _, activation = name.partition("/")
    return step, activation or "identity"
