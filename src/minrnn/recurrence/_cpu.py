"""The fused CPU kernels behind tensors: layouts in, layouts out, no copy where the last stride is 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..kernels import walk
from ..kernels._threads import parallel
from ._definitions import RECURRENCES
from ._layout import Spans, empty_rows, fresh_state, parts, rows, size, strides

Array = np.ndarray[Any, Any]


def flat(x: Tensor) -> Array:
    """All memory from the first to the last element of x, as a flat array; bfloat16 as uint16."""
    x = x.detach()
    if not x.is_contiguous():
        extent = 1 + sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True)) if x.numel() else 0
        x = x.as_strided((extent,), (1,))
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy().reshape(-1)


_NO_RESET = (np.empty(0, np.uint8), (0, 0))
_NO_SPANS = (np.empty(0, np.int64), np.empty(0, np.int64))


def _reset_rows(reset: Tensor | None, spans: Spans) -> tuple[Array, tuple[int, int]]:
    if reset is None:
        return _NO_RESET
    return flat(reset.view(torch.uint8)), strides(reset, spans)


def _span_arrays(spans: Spans) -> tuple[Array, Array]:
    if spans.lengths is None:
        return _NO_SPANS
    return flat(spans.lengths), _NO_SPANS[1] if spans.starts is None else flat(spans.starts)


def _run(kernel: Any, arguments: tuple[Any, ...], spans: Spans, reverse: bool, B: int, T: int, H: int) -> None:
    block = walk.block_size(B, H)
    blocks = -(-H // block)
    lengths, starts = _span_arrays(spans)
    costs = np.repeat(lengths, blocks) + 1 if lengths.size else None
    parallel(
        lambda first, last: kernel(*arguments, lengths, starts, reverse, T, H, block, first, last),
        B * blocks,
        B * T * H if costs is None else int(lengths.sum()) * H,
        costs,
    )


_ABSENT = (np.empty(0, np.float32), (0, 0))


def _array(x: Tensor | None, spans: Spans) -> tuple[Array, tuple[int, int]]:
    return _ABSENT if x is None else (flat(x), strides(x, spans))


def forward(
    name: str,
    inputs: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    spans: Spans,
    reverse: bool,
    h: Tensor | None = None,
    *,
    extra: Tensor | None = None,
    parameters: Tensor | None = None,
    saved: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """inputs (B, T, K*H) or (N, K*H), h0 (B, S*H), reset like inputs' rows, extra (B, T, H), parameters (P, H) -> y
    in the memory order of inputs, the last states (B, S*H).

    A given `h` is written to in place of a new y; a given `saved` (B, T, S*H) gets all states.
    """
    inputs = rows(inputs)
    B, T = size(inputs, spans)
    recurrence = RECURRENCES[name]
    H, S = inputs.shape[-1] // recurrence.inputs, recurrence.states
    h = empty_rows(inputs, recurrence.width * H) if h is None else h
    # A float32 state stands still 1e-4 before the limit of a gate that remembers 3,000 steps.
    state = fresh_state(h0, B, S * H, inputs).double()
    if h.numel():
        arguments = (
            *_array(inputs, spans),
            *_array(None if extra is None else rows(extra), spans),
            _parameter_array(parameters),
            *_array(h, spans),
            *_array(saved, spans),
            *_reset_rows(reset, spans),
            flat(state),
        )
        _run(walk.forward(*parts(name), keep=saved is not None), arguments, spans, reverse, B, T, H)
    return h, state.to(torch.promote_types(inputs.dtype, torch.float32))


def backward(
    name: str,
    inputs: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    spans: Spans,
    h: Tensor,
    dh: Tensor,
    dh_last: Tensor,
    reverse: bool,
    dx: Tensor | None = None,
    *,
    extra: Tensor | None = None,
    dextra: Tensor | None = None,
    parameters: Tensor | None = None,
    partial: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Gradients of inputs and of h0 (B, S*H) from those of both outputs.

    `h` has all states: the output, or what `forward` saved. A given `dx` is written to; `dextra`, like extra, and
    `partial`, zeros (B, P*H), get the gradients of extra and of the parameters for each sequence.
    """
    inputs = rows(inputs)
    B, T = size(inputs, spans)
    recurrence = RECURRENCES[name]
    H, S = inputs.shape[-1] // recurrence.inputs, recurrence.states
    dx = empty_rows(inputs, inputs.shape[-1]) if dx is None else dx
    grad = fresh_state(dh_last, B, S * H, inputs)
    if h.numel():
        dh = rows(dh.to(inputs.dtype))
        arguments = (
            *_array(inputs, spans),
            *_array(None if extra is None else rows(extra), spans),
            _parameter_array(parameters),
            *_array(h, spans),
            *_array(dh, spans),
            *_array(dx, spans),
            *_array(dextra, spans),
            _parameter_array(partial),
            *_reset_rows(reset, spans),
            *(flat(fresh_state(h0, B, S * H, inputs)), flat(grad)),
        )
        _run(walk.backward(*parts(name)), arguments, spans, reverse, B, T, H)
    return dx, grad


def _parameter_array(parameters: Tensor | None) -> Array:
    return _ABSENT[0] if parameters is None else flat(parameters)
