"""`walk_both`: the two directions of a layer at once, from one stacked projection into one output.

Two calls would need a copy to put their outputs side by side, and a sum of two gradients of the input, each as large as
the output; here every kernel reads and writes its half of the rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._autograd import differentiated, vjp
from . import _backend
from ._definitions import RECURRENCES
from ._layout import Spans, empty_rows, in_memory_order
from ._walk import EVERYWHERE, kernels_apply, walk

Two = tuple[Tensor | None, Tensor | None]


def walk_both(
    recurrence: str, inputs: Tensor, h0: Two = (None, None), reset: Two = (None, None), *, spans: Spans = EVERYWHERE
) -> tuple[Tensor, Tensor, Tensor]:
    """`walk` forwards over the first half of `inputs` (B, T, 2*K*H) or (N, 2*K*H), and in reverse over the second.

    Args:
        h0, reset: one for each direction.

    Returns:
        h (B, T, 2*H), both side by side, and the last state of each direction, (B, H).
    """
    chosen = _backend.choose(inputs.device)
    if kernels_apply(chosen, inputs):
        return _Both.apply(inputs, *h0, *reset, *spans, recurrence, chosen)  # type: ignore[no-any-return,no-untyped-call]
    return _composed(inputs, h0, reset, spans, recurrence, chosen)


def _composed(
    inputs: Tensor, h0: Two, reset: Two, spans: Spans, name: str, chosen: str
) -> tuple[Tensor, Tensor, Tensor]:
    forwards, backwards = inputs.chunk(2, dim=-1)
    h, h_last = walk(name, forwards, h0[0], reset[0], spans=spans, chosen=chosen)
    g, g_last = walk(name, backwards, h0[1], reset[1], spans=spans, reverse=True, chosen=chosen)
    return in_memory_order(lambda *both: torch.cat(both, dim=-1), h, g), h_last, g_last


class _Both(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
        *tensors, name, chosen = arguments
        h0, reset, spans = tensors[0:2], tensors[2:4], Spans(*tensors[4:6])
        h = empty_rows(x, x.shape[-1] // RECURRENCES[name].inputs)
        forward = _backend.kernels(chosen).forward
        halves = zip(x.chunk(2, dim=-1), h.chunk(2, dim=-1), strict=True)
        states = [
            forward(name, inputs, h0[way], reset[way], spans, way == 1, h=out)[1]
            for way, (inputs, out) in enumerate(halves)
        ]
        ctx.save_for_backward(x, *tensors, h)
        ctx.options = name, chosen
        return h, *states

    @staticmethod
    def backward(ctx: Any, dh: Tensor, *dlast: Tensor) -> tuple[Tensor | None, ...]:
        x, *tensors, h = ctx.saved_tensors
        name, chosen = ctx.options
        h0, reset, spans = tensors[0:2], tensors[2:4], Spans(*tensors[4:6])
        if differentiated(dh, *dlast):
            return _differentiable(x, h0, reset, spans, (dh, *dlast), name, chosen)
        dx = empty_rows(x, x.shape[-1])
        backward = _backend.kernels(chosen).backward
        dh0 = []
        halves = zip(*(tensor.chunk(2, dim=-1) for tensor in (x, h, dh, dx)), strict=True)
        for way, (inputs, out, dout, dinputs) in enumerate(halves):
            arguments = (name, inputs, h0[way], reset[way], spans, out, dout, dlast[way], way == 1)
            initial = h0[way]
            gradient = backward(*arguments, dx=dinputs)[1]
            dh0.append(None if initial is None else gradient.to(initial.dtype))
        return dx, *dh0, *[None] * 6


def _differentiable(
    x: Tensor, h0: Any, reset: Any, spans: Spans, upstream: tuple[Tensor, ...], name: str, chosen: str
) -> tuple[Tensor | None, ...]:
    present = [way for way in (0, 1) if h0[way] is not None]

    def both(x: Tensor, *given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        initial: list[Tensor | None] = [None, None]
        for way, state in zip(present, given, strict=True):
            initial[way] = state
        return _composed(x, (initial[0], initial[1]), reset, spans, name, chosen)

    _, pull_back = vjp(both, x, *(h0[way] for way in present))
    dx, *dh0 = pull_back(upstream)
    gradients: list[Tensor | None] = [None, None]
    for way, gradient in zip(present, dh0, strict=True):
        gradients[way] = gradient
    return dx, *gradients, *[None] * 6
