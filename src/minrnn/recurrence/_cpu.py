"""The fused CPU kernels behind tensors: layouts in, layouts out, no copy where the last stride is 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..kernels import walk
from ..kernels._threads import parallel
from ._definitions import RECURRENCES
from ._layout import empty_rows, fresh_state, parts, rows


def _flat(x: Tensor) -> np.ndarray[Any, Any]:
    """All memory from the first to the last element of x, as a flat array; bfloat16 as uint16."""
    x = x.detach()
    if not x.is_contiguous():
        extent = 1 + sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True)) if x.numel() else 0
        x = x.as_strided((extent,), (1,))
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy().reshape(-1)


def _at(x: Tensor, reverse: bool) -> tuple[int, int, int]:
    """(offset, batch stride, time stride) of the rows of x (B, T, ...), walked backwards where asked."""
    batch, time = x.stride()[:2]
    return ((x.shape[1] - 1) * time, batch, -time) if reverse else (0, batch, time)


_NO_RESET = (np.empty(0, np.uint8), (0, 0, 0))


def _reset_rows(reset: Tensor | None, reverse: bool) -> tuple[np.ndarray[Any, Any], tuple[int, int, int]]:
    if reset is None:
        return _NO_RESET
    bytes_ = reset.view(torch.uint8)
    return _flat(bytes_), _at(bytes_, reverse)


def forward(name: str, inputs: Tensor, h0: Tensor | None, reset: Tensor | None, reverse: bool) -> tuple[Tensor, Tensor]:
    """inputs (B, T, K*H), h0 (B, H), reset (B, T) -> h (B, T, H) in the memory order of inputs, h_last (B, H)."""
    inputs = rows(inputs)
    B, T, KH = inputs.shape
    H = KH // RECURRENCES[name].inputs
    h = empty_rows(inputs, H)
    # A float32 state stands still 1e-4 before the limit of a gate that remembers 3,000 steps.
    state = fresh_state(h0, B, H, inputs).double()
    if h.numel():
        run = walk.forward(*parts(name))
        block = walk.block_size(B, H)
        arguments = (
            *(_flat(inputs), _at(inputs, reverse)),
            *(_flat(h), _at(h, reverse)),
            *_reset_rows(reset, reverse),
            *(_flat(state), T, H, block),
        )
        parallel(lambda first, last: run(*arguments, first, last), B * -(-H // block), h.numel())
    return h, state.to(torch.promote_types(inputs.dtype, torch.float32))


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
    inputs = rows(inputs)
    B, T, KH = inputs.shape
    H = h.shape[-1]
    dx = empty_rows(inputs, KH)
    grad = fresh_state(dh_last, B, H, inputs)
    if h.numel():
        dh = rows(dh.to(inputs.dtype))
        run = walk.backward(*parts(name))
        block = walk.block_size(B, H)
        arguments = (
            *(_flat(inputs), _at(inputs, reverse)),
            *(_flat(h), _at(h, reverse)),
            *(_flat(dh), _at(dh, reverse)),
            *(_flat(dx), _at(dx, reverse)),
            *_reset_rows(reset, reverse),
            *(_flat(fresh_state(h0, B, H, inputs)), _flat(grad), T, H, block),
        )
        parallel(lambda first, last: run(*arguments, first, last), B * -(-H // block), h.numel())
    return dx, grad
