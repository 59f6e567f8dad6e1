"""`project_and_walk`: projection and recurrence together, for sequences whose projections do not fit into memory.

The states are the layer's output, so they are there anyway; what a backward pass needs beside them are the projections,
K times as large, and those cost one matrix product to compute again. Both passes go through the sequence in pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .._autograd import differentiated, vjp
from ..fused import linear
from . import _backend
from ._definitions import RECURRENCES
from ._layout import Spans, empty_rows, in_memory_order, is_time_major, size
from ._walk import EVERYWHERE, kernels_apply, walk

PIECE = 2**22  # elements of the projections in memory at a time: 16 MB of float32, which stay in a processor's cache


def project_and_walk(
    recurrence: str,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    h0: Tensor | None = None,
    reset: Tensor | None = None,
    *,
    spans: Spans = EVERYWHERE,
    reverse: bool = False,
    recompute: bool = False,
) -> tuple[Tensor, Tensor]:
    """`walk(recurrence, x @ weight.T + bias, ...)`.

    Args:
        x: (B, T, D), or packed (N, D).
        weight, bias: of the K stacked projections, (K*H, D) and (K*H,).
        recompute: hold the projections of a piece of the sequence at a time, and compute them again in the backward
            pass. Exact; where forward mode, `torch.func` or `torch.compile` are at work, or a backend without kernels,
            it is left out.
        h0, reset, spans, reverse: as for `walk`.
    """
    if not recompute:
        projected = in_memory_order(lambda x: linear(x, weight, bias), x)
        return walk(recurrence, projected, h0, reset, spans=spans, reverse=reverse)
    chosen = _backend.choose(x.device)
    if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:  # as F.linear would
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    if not kernels_apply(chosen, x):
        return project_and_walk(recurrence, x, weight, bias, h0, reset, spans=spans, reverse=reverse)
    arguments = (x, weight, bias, h0, reset, *spans, recurrence, reverse, chosen)
    return _ProjectAndWalk.apply(*arguments)  # type: ignore[no-any-return,no-untyped-call]


class _Piece(NamedTuple):
    """Steps first to last - 1 of all sequences."""

    first: int
    last: int
    rows: Any  # index of their rows in x and h
    spans: Spans


def _pieces(x: Tensor, spans: Spans, width: int) -> Iterator[_Piece]:
    B, T = size(x, spans)
    steps = max(1, PIECE // max(B * width, 1))
    for first in range(0, T, steps):
        last = min(first + steps, T)
        lengths = None if spans.lengths is None else (spans.lengths - first).clamp(0, last - first)
        if spans.starts is None:
            yield _Piece(first, last, (slice(None), slice(first, last)), Spans(lengths))
        else:
            begin = int(spans.starts[first])
            end = int(spans.starts[last]) if last < T else x.shape[0]
            yield _Piece(first, last, slice(begin, end), Spans(lengths, spans.starts[first:last] - begin))


def _state_after(h: Tensor, h0: Tensor | None, step: int, spans: Spans) -> Tensor | None:
    """The states that step `step` left in h, (B, H); h0 for sequences without that step."""
    _, T = size(h, spans)
    if not 0 <= step < T:
        return h0
    if spans.lengths is None:
        return h[:, step]
    B = spans.lengths.shape[0]
    if spans.starts is None:
        states = h[:, step]
    else:
        begin = int(spans.starts[step])
        states = F.pad(h[begin : begin + B], (0, 0, 0, max(0, begin + B - h.shape[0])))
    otherwise = torch.zeros_like(states) if h0 is None else h0
    return torch.where((spans.lengths > step)[:, None].to(h.device), states, otherwise)


def _as_in_forward(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Autocast around a backward pass must not change the projections that it computes again."""

    def run(ctx: Any, *upstream: Tensor) -> Any:
        with torch.autocast(upstream[0].device.type, enabled=False):
            return backward(ctx, *upstream)

    return run


class _ProjectAndWalk(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        h0: Tensor | None,
        reset: Tensor | None,
        lengths: Tensor | None,
        starts: Tensor | None,
        name: str,
        reverse: bool,
        chosen: str,
    ) -> tuple[Tensor, Tensor]:
        spans = Spans(lengths, starts)
        H = weight.shape[0] // RECURRENCES[name].inputs
        h = empty_rows(x, H)
        B, _ = size(x, spans)
        dtype = torch.promote_types(x.dtype, torch.float32)
        state = x.new_zeros(B, H, dtype=dtype) if h0 is None else h0.to(dtype)
        forward = _backend.kernels(chosen).forward
        for piece in _in_order(_pieces(x, spans, weight.shape[0]), reverse):
            projected = in_memory_order(lambda x: F.linear(x, weight, bias), x[piece.rows])
            resets = None if reset is None else reset[piece.rows]
            _, state = forward(name, projected, state, resets, piece.spans, reverse, h=h[piece.rows])
        ctx.save_for_backward(x, weight, bias, h0, reset, lengths, starts, h)
        ctx.options = name, reverse, chosen
        return h, state

    @staticmethod
    @_as_in_forward
    def backward(ctx: Any, dh: Tensor, dh_last: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, h0, reset, lengths, starts, h = ctx.saved_tensors
        name, reverse, chosen = ctx.options
        spans = Spans(lengths, starts)
        if differentiated(dh, dh_last):
            arguments = (x, weight, bias, h0, reset, spans, dh, dh_last, name, reverse, chosen)
            return *_differentiable(*arguments), *[None] * 6
        dx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        # A sum over pieces in bfloat16 would lose what the sum over steps inside a product does not.
        dweight = torch.zeros_like(weight, dtype=dh_last.dtype)
        dbias = weight.new_zeros(weight.shape[0], dtype=dh_last.dtype)
        backward = _backend.kernels(chosen).backward
        for piece in _in_order(_pieces(x, spans, weight.shape[0]), not reverse):
            rows = x[piece.rows]
            projected = in_memory_order(lambda x: F.linear(x, weight, bias), rows)
            before = _state_after(h, h0, piece.last if reverse else piece.first - 1, spans)
            resets = None if reset is None else reset[piece.rows]
            dprojected, dh_last = backward(
                name, projected, before, resets, piece.spans, h[piece.rows], dh[piece.rows], dh_last, reverse
            )
            if dx is not None:
                dx[piece.rows] = in_memory_order(lambda d: d @ weight, dprojected)
            flat = _as_matrix(dprojected)
            dweight += flat.T @ _as_matrix(rows)
            dbias += flat.sum(dim=0)
        return (
            dx,
            dweight.to(weight.dtype),
            None if bias is None else dbias.to(bias.dtype),
            None if h0 is None else dh_last.to(h0.dtype),
            *[None] * 6,
        )


def _as_matrix(x: Tensor) -> Tensor:
    """The rows of x, in the order in which they lie."""
    return (x.transpose(0, 1) if is_time_major(x) else x).flatten(0, -2)


def _in_order(pieces: Iterator[_Piece], backwards: bool) -> list[_Piece]:
    return list(pieces)[::-1] if backwards else list(pieces)


def _differentiable(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    h0: Tensor | None,
    reset: Tensor | None,
    spans: Spans,
    dh: Tensor,
    dh_last: Tensor,
    name: str,
    reverse: bool,
    chosen: str,
) -> tuple[Tensor | None, ...]:
    """The gradients of x, weight, bias and h0, all projections at once."""
    given = {"x": x, "weight": weight, "bias": bias, "h0": h0}
    present = {key: value for key, value in given.items() if value is not None}

    def whole(tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        projected = F.linear(tensors["x"], tensors["weight"], tensors.get("bias"))
        return walk(name, projected, tensors.get("h0"), reset, spans=spans, reverse=reverse, chosen=chosen)

    _, pull_back = vjp(whole, present)
    (gradients,) = pull_back((dh, dh_last))
    return tuple(gradients.get(key) for key in given)
