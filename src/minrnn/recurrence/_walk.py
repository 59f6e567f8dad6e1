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
from torch.autograd import forward_ad

from .._autograd import nothing_to_record, vjp
from . import _backend
from ._definitions import RECURRENCES, definition
from ._layout import empty_rows
from ._scans import logspace, scan

_COMPOSED = {"torch": scan, "logspace": logspace, "definition": definition}


def walk(
    recurrence: str,
    inputs: Tensor,
    h0: Tensor | None = None,
    reset: Tensor | None = None,
    *,
    reverse: bool = False,
    chosen: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Run one recurrence over time. Arguments are trusted: the public functions and the layers check them.

    Args:
        recurrence: a name of `RECURRENCES`, such as `"mingru/identity"`.
        inputs: the K stacked projections, (B, T, K*H); a time-major tensor seen through `transpose(0, 1)` is not
            copied.
        h0: the state before the first step, (B, H); zeros by default.
        reset: (B, T) bool; the state is zeroed before step t where it is true.
        reverse: walk from the last step to the first.

    Returns:
        h (B, T, H) in dtype and memory order of `inputs`, and the last state walked to, (B, H), in float32 (float64
        for float64).
    """
    chosen = chosen or _backend.choose(inputs.device)
    if chosen in _COMPOSED:
        return _COMPOSED[chosen](RECURRENCES[recurrence], inputs, h0, reset, reverse)
    if reason := _backend.unsuited(chosen, inputs.device):
        raise RuntimeError(reason)
    if chosen == "cpu" and inputs.dtype == torch.float16:  # float32 loses nothing, and no kernel needs to know
        h, h_last = walk(recurrence, inputs.float(), h0, reset, reverse=reverse)
        return h.half(), h_last
    compiling = torch.compiler.is_compiling()
    if _forward_mode() or (compiling and torch._C._are_functorch_transforms_active()):
        # Tangents of a Function do not nest, and an operator has none: both would be wrong in silence.
        return scan(RECURRENCES[recurrence], inputs, h0, reset, reverse)
    if compiling:
        return _walk_op(inputs, h0, reset, recurrence, reverse, chosen)  # type: ignore[no-any-return]
    if nothing_to_record():
        return _Walk.forward(inputs, h0, reset, recurrence, reverse, chosen)
    return _Walk.apply(inputs, h0, reset, recurrence, reverse, chosen)  # type: ignore[no-any-return,no-untyped-call]


def _forward_mode() -> bool:
    """Whether tangents may be around, which plain torch operations carry to any order."""
    return forward_ad._current_level >= 0


class _Walk(torch.autograd.Function):
    @staticmethod
    def forward(
        x: Tensor, h0: Tensor | None, reset: Tensor | None, name: str, reverse: bool, chosen: str
    ) -> tuple[Tensor, Tensor]:
        return _backend.kernels(chosen).forward(name, x, h0, reset, reverse)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, h0, reset, *ctx.options = inputs
        ctx.save_for_backward(x, h0, reset, output[0])

    @staticmethod
    def backward(ctx: Any, dh: Tensor, dh_last: Tensor) -> tuple[Tensor | None, ...]:
        x, h0, reset, h = ctx.saved_tensors
        backward = _differentiable_backward if _forward_mode() else _WalkBackward.apply
        dx, dh0 = backward(x, h0, reset, h, dh, dh_last, *ctx.options)
        return dx, None if h0 is None else dh0.to(h0.dtype), None, None, None, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *arguments: Any
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        return _map_over_batch(_Walk, info.batch_size, in_dims, arguments, tensors=3)


class _WalkBackward(torch.autograd.Function):
    """(x, h0, reset, h, dh, dh_last) -> dx, dh0. Its own derivatives come from `_differentiable_backward`, which
    equals it.
    """

    @staticmethod
    def forward(
        x: Tensor,
        h0: Tensor | None,
        reset: Tensor | None,
        h: Tensor,
        dh: Tensor,
        dh_last: Tensor,
        name: str,
        reverse: bool,
        chosen: str,
    ) -> tuple[Tensor, Tensor]:
        return _backend.kernels(chosen).backward(name, x, h0, reset, h, dh, dh_last, reverse)  # type: ignore[no-any-return]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.name, ctx.reverse, ctx.chosen = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, ddx: Tensor, ddh0: Tensor) -> tuple[Tensor | None, ...]:
        x, h0, _, *others = ctx.saved_tensors
        arguments = (x, *others) if h0 is None else (x, *others, h0)
        _, pull_back = vjp(_WalkBackward._composed(ctx), *arguments)
        dx, dh, ddh, ddh_last, *dh0 = pull_back((ddx, ddh0))
        return dx, *(dh0 or [None]), None, dh, ddh, ddh_last, None, None, None

    @staticmethod
    def _composed(ctx: Any) -> Callable[..., tuple[Tensor, Tensor]]:
        reset = ctx.saved_tensors[2]

        def composed(
            x: Tensor, h: Tensor, dh: Tensor, dh_last: Tensor, h0: Tensor | None = None
        ) -> tuple[Tensor, Tensor]:
            return _differentiable_backward(x, h0, reset, h, dh, dh_last, ctx.name, ctx.reverse, ctx.chosen)

        return composed

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], *arguments: Any
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        return _map_over_batch(_WalkBackward, info.batch_size, in_dims, arguments, tensors=6)


def _map_over_batch(
    function: Any, N: int, in_dims: tuple[int | None, ...], arguments: tuple[Any, ...], tensors: int
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    """vmap: the mapped axis joins the batch, (N, B, ...) -> (N*B, ...), for the first `tensors` arguments."""

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
    return RECURRENCES[name].coefficients(*x.chunk(RECURRENCES[name].inputs, dim=-1))


def _before(h: Tensor, h0: Tensor | None, reset: Tensor | None, reverse: bool) -> Tensor:
    """The state that each step read, (B, T, H): h shifted by one step, h0 in front, zero after a reset."""
    h = h.to(torch.promote_types(h.dtype, torch.float32))
    first = torch.zeros_like(h[:, :1]) if h0 is None else h0[:, None].to(h.dtype)
    before = torch.cat([h[:, 1:], first], dim=1) if reverse else torch.cat([first, h[:, :-1]], dim=1)
    return before if reset is None else before.masked_fill(reset[..., None], 0)


def _differentiable_backward(
    x: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    h: Tensor,
    dh: Tensor,
    dh_last: Tensor,
    name: str,
    reverse: bool,
    chosen: str,
) -> tuple[Tensor, Tensor]:
    """The gradients as differentiable operations: g_t = dh_t + a_{t+1} g_{t+1}, da_t = g_t h_{t-1}, db_t = g_t."""
    (a, b), pull_back = vjp(lambda x: _coefficients(name, x), x)
    a_walked = a if reset is None else a.masked_fill(reset[..., None], 0)
    if b.shape[1] == 0:
        return torch.zeros_like(x), dh_last
    # The gradient walks the other way; before it meets the last step it carries dh_last with factor 1.
    one = torch.ones_like(a[:, :1])
    a_next = torch.cat([one, a_walked[:, :-1]], dim=1) if reverse else torch.cat([a_walked[:, 1:], one], dim=1)
    g, g_first = walk(
        "linear", torch.cat([a_next, dh.to(b.dtype)], dim=-1), dh_last, reverse=not reverse, chosen=chosen
    )
    a_first = a_walked[:, -1] if reverse else a_walked[:, 0]
    (dx,) = pull_back((g * _before(h, h0, reset, reverse), g))
    return dx, a_first * g_first


# --- the registered operators -----------------------------------------------------------------------------------------


@torch.library.custom_op("minrnn::walk", mutates_args=())
def _walk_op(
    inputs: Tensor, h0: Tensor | None, reset: Tensor | None, name: str, reverse: bool, chosen: str
) -> tuple[Tensor, Tensor]:
    return _backend.kernels(chosen).forward(name, inputs, h0, reset, reverse)  # type: ignore[no-any-return]


@torch.library.custom_op("minrnn::walk_backward", mutates_args=())
def _walk_backward_op(
    inputs: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    h: Tensor,
    dh: Tensor,
    dh_last: Tensor,
    name: str,
    reverse: bool,
    chosen: str,
) -> tuple[Tensor, Tensor]:
    return _backend.kernels(chosen).backward(name, inputs, h0, reset, h, dh, dh_last, reverse)  # type: ignore[no-any-return]


@_walk_op.register_fake
def _(
    inputs: Tensor, h0: Tensor | None, reset: Tensor | None, name: str, reverse: bool, chosen: str
) -> tuple[Tensor, Tensor]:
    H = inputs.shape[-1] // RECURRENCES[name].inputs
    state = inputs.new_empty(inputs.shape[0], H, dtype=torch.promote_types(inputs.dtype, torch.float32))
    return empty_rows(inputs, H), state


@_walk_backward_op.register_fake
def _(
    inputs: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    h: Tensor,
    dh: Tensor,
    dh_last: Tensor,
    name: str,
    reverse: bool,
    chosen: str,
) -> tuple[Tensor, Tensor]:
    return empty_rows(inputs, inputs.shape[-1]), dh_last.new_empty(dh_last.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, h0, reset, *ctx.options = inputs
    ctx.save_for_backward(x, h0, reset, output[0])


def _op_backward(ctx: Any, dh: Tensor, dh_last: Tensor) -> tuple[Tensor | None, ...]:
    x, h0, reset, h = ctx.saved_tensors
    dx, dh0 = _walk_backward_op(x, h0, reset, h, dh, dh_last, *ctx.options)
    return dx, None if h0 is None else dh0.to(h0.dtype), None, None, None, None


_walk_op.register_autograd(_op_backward, setup_context=_save)
