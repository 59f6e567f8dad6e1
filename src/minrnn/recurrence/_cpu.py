"""The fused CPU kernels behind tensors: layouts in, layouts out, no copy where the last stride is 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..kernels import walk
from ..kernels._threads import parallel
from ._definitions import RECURRENCES

SUPPORTED = (torch.float32, torch.float64, torch.bfloat16)


def _flat(x: Tensor) -> np.ndarray[Any, Any]:
    """All memory from the first to the last element of x, as a flat array; bfloat16 as uint16."""
    extent = 1 + sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True)) if x.numel() else 0
    flat = x.detach().as_strided((extent,), (1,))
    return (flat.view(torch.uint16) if flat.dtype == torch.bfloat16 else flat).numpy()


def _at(x: Tensor, reverse: bool) -> tuple[int, int, int]:
    """(offset, batch stride, time stride) of the rows of x (B, T, ...), walked backwards where asked."""
    batch, time = x.stride()[:2]
    return ((x.shape[1] - 1) * time, batch, -time) if reverse else (0, batch, time)


def _rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 or x.shape[-1] <= 1 and x.is_contiguous() else x.contiguous()


def _empty_like_order(x: Tensor, width: int) -> Tensor:
    """An empty (B, T, width) in the memory order, batch-major or time-major, of x (B, T, ...)."""
    B, T = x.shape[:2]
    if x.stride(0) < x.stride(1):
        return x.new_empty(T, B, width).transpose(0, 1)
    return x.new_empty(B, T, width)


_NO_RESET = (np.empty(0, np.uint8), (0, 0, 0))


def _reset_rows(reset: Tensor | None, reverse: bool) -> tuple[np.ndarray[Any, Any], tuple[int, int, int]]:
    if reset is None:
        return _NO_RESET
    bytes_ = reset.view(torch.uint8)
    return _flat(bytes_), _at(bytes_, reverse)


def _state(h: Tensor | None, B: int, H: int, like: Tensor) -> Tensor:
    """A fresh (B, H) state in float32, or float64 for float64 inputs."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    if h is None:
        return like.new_zeros(B, H, dtype=dtype)
    return h.detach().to(dtype=dtype, memory_format=torch.contiguous_format, copy=True)


def forward(name: str, inputs: Tensor, h0: Tensor | None, reset: Tensor | None, reverse: bool) -> tuple[Tensor, Tensor]:
    """inputs (B, T, K*H), h0 (B, H), reset (B, T) -> h (B, T, H) in the memory order of inputs, h_last (B, H)."""
    inputs = _rows(inputs)
    B, T, KH = inputs.shape
    H = KH // RECURRENCES[name].inputs
    h = _empty_like_order(inputs, H)
    state = _state(h0, B, H, inputs)
    if h.numel():
        run = walk.forward(*_parts(name))
        block = walk.block_size(B, H)
        arguments = (
            *(_flat(inputs), _at(inputs, reverse)),
            *(_flat(h), _at(h, reverse)),
            *_reset_rows(reset, reverse),
            *(_flat(state), T, H, block),
        )
        parallel(lambda first, last: run(*arguments, first, last), B * -(-H // block), h.numel())
    return h, state


def backward(
    name: str,
    inputs: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    h: Tensor,
    dh: Tensor,
    dh_last: Tensor,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of inputs (B, T, K*H) and of h0 (B, H) from those of both outputs."""
    inputs = _rows(inputs)
    B, T, KH = inputs.shape
    H = h.shape[-1]
    dx = _empty_like_order(inputs, KH)
    grad = _state(dh_last, B, H, inputs)
    if h.numel():
        dh = _rows(dh.to(inputs.dtype))
        run = walk.backward(*_parts(name))
        block = walk.block_size(B, H)
        arguments = (
            *(_flat(inputs), _at(inputs, reverse)),
            *(_flat(h), _at(h, reverse)),
            *(_flat(dh), _at(dh, reverse)),
            *(_flat(dx), _at(dx, reverse)),
            *_reset_rows(reset, reverse),
            *(_flat(_state(h0, B, H, inputs)), _flat(grad), T, H, block),
        )
        parallel(lambda first, last: run(*arguments, first, last), B * -(-H // block), h.numel())
    return dx, grad


def _parts(name: str) -> tuple[str, str]:
    step, _, activation = name.partition("/")
    return step, activation or "identity"
