"""`walk`: any recurrence over a stacked projection, differentiable to every order.

In eager mode an `autograd.Function` carries the fused kernels, because `torch.func` and forward mode work through it;
under
`torch.compile` and `torch.export` a registered operator does, because Dynamo refuses a Function with a `jvp`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._autograd import beyond_kernels, forward_mode, mapped, nothing_to_record, vjp
from . import _backend
from ._definitions import RECURRENCES, definition, single_step
from ._layout import Spans, empty_rows, existing, pack, size, unpack
from ._scans import logspace, scan

_COMPOSED = {"torch": scan, "logspace": logspace, "definition": definition}

EVERYWHERE = Spans()

SMALL_STEP = 16_384  # elements of the inputs of a single step, up to which calling a kernel costs more than its work


def walk(
    recurrence: str,
    inputs: Tensor,
    h0: Tensor | None = None,
    reset: Tensor | None = None,
    *,
    spans: Spans = EVERYWHERE,
    reverse: bool = False,
    chosen: str | None = None,
    preferred: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Run one recurrence over time. Arguments are trusted: the public functions and the layers check them.

    Args:
        recurrence: a name of `AFFINE`, such as `"mingru/identity"`.
        inputs: the K stacked projections, (B, T, K*H); a time-major tensor seen through `transpose(0, 1)` is not
            copied. Packed sequences are (N, K*H).
        h0: the state before the first step, (B, H); zeros by default.
        reset: (B, T) bool, or (N,); the state is zeroed before step t where it is true.
        spans: lengths of the sequences, and the layout of packed ones; T steps each by default.
        reverse: walk from the last step of each sequence to its first.
        chosen: the implementation.
        preferred: the implementation where `backend` forces none.

    Returns:
        h (B, T, H) in dtype and memory order of `inputs`, zero where there is no step, and the last state walked to,
        (B, H), in float32 (float64 for float64): h0 for a length of 0.
    """
    chosen = chosen or _backend.choose(inputs.device, preferred)
    if chosen == "triton" and not _backend.kernels(chosen).has(recurrence):
        chosen = "torch"
    if chosen in _COMPOSED:
        return _composed(_COMPOSED[chosen], recurrence, inputs, h0, reset, spans, reverse)
    if reason := _backend.unsuited(chosen, inputs.device):
        raise RuntimeError(reason)
    compiling = torch.compiler.is_compiling()
    simple = chosen == "cpu" and reset is None and spans.lengths is None and not compiling
    if simple and inputs.shape[1] == 1 and inputs.numel() <= SMALL_STEP:
        h, h_last = single_step(RECURRENCES[recurrence], inputs, h0)
        return h.clone() if h.dtype == h_last.dtype else h, h_last  # one memory for both: a change to one is in both
    if chosen == "cpu" and inputs.dtype == torch.float16:  # float32 loses nothing, and no kernel needs to know
        h, h_last = walk(recurrence, inputs.float(), h0, reset, spans=spans, reverse=reverse)
        return h.half(), h_last
    if forward_mode() or (_transforming() if compiling else mapped(inputs)):
        # Tangents of a Function do not nest, and an operator has none: both would be wrong in silence.
        return _composed(scan, recurrence, inputs, h0, reset, spans, reverse)
    arguments = (inputs, h0, reset, *spans, recurrence, reverse, chosen)
    if compiling:
        return _walk_op(*arguments)  # type: ignore[no-any-return]
    if nothing_to_record():
        return _Walk.forward(*arguments)
    return _Walk.apply(*arguments)  # type: ignore[no-any-return,no-untyped-call]


def _composed(
    function: Callable[..., tuple[Tensor, Tensor]],
    recurrence: str,
    inputs: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    spans: Spans,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """One of the implementations in torch operations; all of them know padded sequences only."""
    spans = Spans(*(None if span is None else span.to(inputs.device) for span in spans))
    if spans.starts is not None:
        reset = None if reset is None else unpack(reset, spans)
        padded = Spans(spans.lengths)
        h, h_last = _composed(function, recurrence, unpack(inputs, spans), h0, reset, padded, reverse)
        return pack(h, spans), h_last
    there = None if spans.lengths is None else existing(spans.lengths, inputs.shape[1])
    return function(RECURRENCES[recurrence], inputs, h0, reset, reverse, there)


def _transforming() -> bool:
    """Whether `torch.func` is at work."""
    return torch._C._are_functorch_transforms_active()


def kernels_apply(chosen: str, x: Tensor) -> bool:
    """Whether kernels may be called on x as they are, by an `autograd.Function` that only reverse mode can enter."""
    return not (
        chosen in _COMPOSED
        or _backend.unsuited(chosen, x.device)
        or x.dtype == torch.float16
        or torch.compiler.is_compiling()
        or forward_mode()
        or _transforming()
    )


class _Walk(torch.autograd.Function):
    @staticmethod
    def forward(
        x: Tensor,
        h0: Tensor | None,
        reset: Tensor | None,
        lengths: Tensor | None,
        starts: Tensor | None,
        name: str,
        reverse: bool,
        chosen: str,
    ) -> tuple[Tensor, Tensor]:
        return _backend.kernels(chosen).forward(name, x, h0, reset, Spans(lengths, starts), reverse)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.name, ctx.reverse, ctx.chosen = inputs
        ctx.save_for_backward(*tensors, output[0])

    @staticmethod
    def backward(ctx: Any, dh: Tensor, dh_last: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: checkpointing forbids a second look
        h0 = saved[1]
        backward = _differentiable_backward if beyond_kernels(dh, dh_last) else _WalkBackward.apply
        arguments = (*saved, dh, dh_last, ctx.name, ctx.reverse, ctx.chosen)
        dx, dh0 = backward(*arguments)
        return dx, None if h0 is None else dh0.to(h0.dtype), *[None] * 6

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *arguments: Any
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        return _map_over_batch(_Walk, info.batch_size, in_dims, arguments, tensors=4)


class _WalkBackward(torch.autograd.Function):
    """(x, h0, reset, lengths, starts, h, dh, dh_last) -> dx, dh0. Its own derivatives come from
    `_differentiable_backward`, which equals it.
    """

    @staticmethod
    def forward(
        x: Tensor,
        h0: Tensor | None,
        reset: Tensor | None,
        lengths: Tensor | None,
        starts: Tensor | None,
        h: Tensor,
        dh: Tensor,
        dh_last: Tensor,
        name: str,
        reverse: bool,
        chosen: str,
    ) -> tuple[Tensor, Tensor]:
        spans = Spans(lengths, starts)
        return _backend.kernels(chosen).backward(name, x, h0, reset, spans, h, dh, dh_last, reverse)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.name, ctx.reverse, ctx.chosen = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, ddx: Tensor, ddh0: Tensor) -> tuple[Tensor | None, ...]:
        x, h0, *kept, h, dh, dh_last = ctx.saved_tensors
        arguments = (x, h, dh, dh_last) if h0 is None else (x, h, dh, dh_last, h0)
        _, pull_back = vjp(_WalkBackward._composed(ctx, kept), *arguments)
        dx, dh, ddh, ddh_last, *dh0 = pull_back((ddx, ddh0))
        return dx, *(dh0 or [None]), None, None, None, dh, ddh, ddh_last, None, None, None

    @staticmethod
    def _composed(ctx: Any, kept: list[Tensor | None]) -> Callable[..., tuple[Tensor, Tensor]]:
        def composed(
            x: Tensor, h: Tensor, dh: Tensor, dh_last: Tensor, h0: Tensor | None = None
        ) -> tuple[Tensor, Tensor]:
            arguments = (x, h0, *kept, h, dh, dh_last, ctx.name, ctx.reverse, ctx.chosen)
            return _differentiable_backward(*arguments)

        return composed

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *arguments: Any
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        return _map_over_batch(_WalkBackward, info.batch_size, in_dims, arguments, tensors=8)


def _map_over_batch(
    function: Any, N: int, in_dims: tuple[int | None, ...], arguments: tuple[Any, ...], tensors: int
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    """vmap: the mapped axis joins the batch, (N, B, ...) -> (N*B, ...), for the first `tensors` arguments."""
    if arguments[4] is not None:
        raise RuntimeError("vmap over packed sequences is not possible: pass them padded, with lengths")

    def fold(tensor: Tensor | None, dim: int | None) -> Tensor | None:
        if tensor is None:
            return None
        tensor = tensor.expand(N, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
        return tensor.flatten(0, 1)

    folded = [fold(tensor, dim) for tensor, dim in zip(arguments[:tensors], in_dims, strict=False)]
    first, second = function.apply(*folded, *arguments[tensors:])
    return (first.unflatten(0, (N, -1)), second.unflatten(0, (N, -1))), (0, 0)


# --- derivatives of every order: coefficients are elementwise, and what remains is a linear recurrence ----------------


def _coefficients(name: str, x: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T, K*H) -> a, b (B, T, H), in float32 or float64."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    coefficients = RECURRENCES[name].coefficients
    assert coefficients is not None
    return coefficients(*x.chunk(RECURRENCES[name].inputs, dim=-1))


def _before(h: Tensor, h0: Tensor | None, reset: Tensor | None, there: Tensor | None, reverse: bool) -> Tensor:
    """The state that each step read, (B, T, H): h shifted by one step, h0 in front, zero after a reset."""
    h = h.to(torch.promote_types(h.dtype, torch.float32))
    first = torch.zeros_like(h[:, :1]) if h0 is None else h0[:, None].to(h.dtype)
    if there is not None:  # walked from the end, the last step that exists reads h0 from the one that does not
        h = torch.where(there[..., None], h, first)
    before = torch.cat([h[:, 1:], first], dim=1) if reverse else torch.cat([first, h[:, :-1]], dim=1)
    return before if reset is None else before.masked_fill(reset[..., None], 0)


def _differentiable_backward(
    x: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    lengths: Tensor | None,
    starts: Tensor | None,
    h: Tensor,
    dh: Tensor,
    dh_last: Tensor,
    name: str,
    reverse: bool,
    chosen: str,
) -> tuple[Tensor, Tensor]:
    """The gradients as differentiable operations: g_t = dh_t + a_{t+1} g_{t+1}, da_t = g_t h_{t-1}, db_t = g_t."""
    lengths, starts = (None if span is None else span.to(x.device) for span in (lengths, starts))
    if starts is not None:
        spans = Spans(lengths, starts)
        reset = None if reset is None else unpack(reset, spans)
        x, h, dh = (unpack(tensor, spans) for tensor in (x, h, dh))
        dx, dh0 = _differentiable_backward(x, h0, reset, lengths, None, h, dh, dh_last, name, reverse, chosen)
        return pack(dx, spans), dh0
    there = None if lengths is None else existing(lengths, x.shape[1])
    (a, b), pull_back = vjp(lambda x: _coefficients(name, x), x)
    if b.shape[1] == 0:
        return torch.zeros_like(x), dh_last
    dh = dh.to(b.dtype)
    a_walked = a if reset is None else a.masked_fill(reset[..., None], 0)
    if there is not None:
        a_walked, dh = torch.where(there[..., None], a_walked, 1), torch.where(there[..., None], dh, 0)
    # The gradient walks the other way; before it meets the last step it carries dh_last with factor 1.
    one = torch.ones_like(a[:, :1])
    a_next = torch.cat([one, a_walked[:, :-1]], dim=1) if reverse else torch.cat([a_walked[:, 1:], one], dim=1)
    g, g_first = walk("linear", torch.cat([a_next, dh], dim=-1), dh_last, reverse=not reverse, chosen=chosen)
    a_first = a_walked[:, -1] if reverse else a_walked[:, 0]
    db = g if there is None else torch.where(there[..., None], g, 0)
    (dx,) = pull_back((db * _before(h, h0, reset, there, reverse), db))
    return dx, a_first * g_first


# --- the registered operators -----------------------------------------------------------------------------------------


@torch.library.custom_op("minrnn::walk", mutates_args=())
def _walk_op(
    inputs: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    lengths: Tensor | None,
    starts: Tensor | None,
    name: str,
    reverse: bool,
    chosen: str,
) -> tuple[Tensor, Tensor]:
    return _backend.kernels(chosen).forward(name, inputs, h0, reset, Spans(lengths, starts), reverse)  # type: ignore[no-any-return]


@torch.library.custom_op("minrnn::walk_backward", mutates_args=())
def _walk_backward_op(
    inputs: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    lengths: Tensor | None,
    starts: Tensor | None,
    h: Tensor,
    dh: Tensor,
    dh_last: Tensor,
    name: str,
    reverse: bool,
    chosen: str,
) -> tuple[Tensor, Tensor]:
    spans = Spans(lengths, starts)
    return _backend.kernels(chosen).backward(name, inputs, h0, reset, spans, h, dh, dh_last, reverse)  # type: ignore[no-any-return]


@_walk_op.register_fake
def _(
    inputs: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    lengths: Tensor | None,
    starts: Tensor | None,
    name: str,
    reverse: bool,
    chosen: str,
) -> tuple[Tensor, Tensor]:
    H = inputs.shape[-1] // RECURRENCES[name].inputs
    B, _ = size(inputs, Spans(lengths, starts))
    state = inputs.new_empty(B, H, dtype=torch.promote_types(inputs.dtype, torch.float32))
    return empty_rows(inputs, H), state


@_walk_backward_op.register_fake
def _(
    inputs: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    lengths: Tensor | None,
    starts: Tensor | None,
    h: Tensor,
    dh: Tensor,
    dh_last: Tensor,
    name: str,
    reverse: bool,
    chosen: str,
) -> tuple[Tensor, Tensor]:
    return empty_rows(inputs, inputs.shape[-1]), dh_last.new_empty(dh_last.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.name, ctx.reverse, ctx.chosen = inputs
    ctx.save_for_backward(*tensors, output[0])


def _op_backward(ctx: Any, dh: Tensor, dh_last: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    h0 = saved[1]
    dx, dh0 = _walk_backward_op(*saved, dh, dh_last, ctx.name, ctx.reverse, ctx.chosen)
    return dx, None if h0 is None else dh0.to(h0.dtype), *[None] * 6


_walk_op.register_autograd(_op_backward, setup_context=_save)
