from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .._autograd import differentiated
from ..kernels import rows
from ..kernels._threads import parallel
from . import _definitions
from ._common import SMALL_STEP, apply, differentiable_gradients, flat, fusable

Draw = tuple[int, int, float]  # seed, threshold of the random bits, and the factor of a kept element


def gelu_dropout(x: Tensor, p: float = 0.0, training: bool = True) -> Tensor:
    """dropout(gelu(x), p), with GELU in its tanh form (arXiv 1606.08415).

    Args:
        x: any shape; float32, float64 or bfloat16.
        p: probability of zeroing an element, 0 <= p < 1. Default 0.
        training: False leaves dropout out.

    Returns:
        A tensor like x. The random numbers follow `torch.manual_seed`, but differ from those of `nn.Dropout`.

    Example:
        >>> y = gelu_dropout(torch.randn(8, 1536), p=0.2)
    """
    p = _check(p, training)
    if fusable(x) and (p or x.numel() > SMALL_STEP):
        return apply(_GELUDropout, x, _draw(p))
    return F.dropout(F.gelu(x, approximate="tanh"), p, training)


def dropout_add(residual: Tensor, x: Tensor, p: float = 0.0, training: bool = True) -> Tensor:
    """residual + dropout(x, p): the end of every residual branch.

    Args:
        residual: any shape; its dtype is the result's, so a float32 residual stream stays one under autocast.
        x: like `residual`, or bfloat16.
        p: probability of zeroing an element of x, 0 <= p < 1. Default 0.
        training: False leaves dropout out.

    Example:
        >>> x = dropout_add(x, branch(x), p=0.2, training=self.training)
    """
    p = _check(p, training)
    if not p:
        return residual + x.to(residual.dtype)
    if fusable(residual, x) and residual.shape == x.shape:
        return apply(_DropoutAdd, residual, x, _draw(p))
    return residual + F.dropout(x, p, training).to(residual.dtype)


def _check(p: float, training: bool) -> float:
    if not 0 <= p < 1:
        raise ValueError(f"p is {p}; expected a probability of dropping, 0 <= p < 1")
    return p if training else 0.0


def _draw(p: float) -> Draw:
    """Fresh random bits from torch's generator; without dropout nothing is drawn, so that evaluation moves no
    generator.
    """
    seed = int(torch.randint(2**62, (), device="cpu")) if p else 0
    return seed, min(round(p * 2**32), 2**32 - 1), 1 / (1 - p)


def _elementwise(kernel: Callable[..., None], draw: Draw, *arrays: Tensor) -> None:
    flats, n = [flat(a) for a in arrays], arrays[0].numel()
    parallel(lambda first, last: kernel(*flats, *draw, n, first, last), -(-n // rows.ELEMENTS), n)


def _factors(like: Tensor, draw: Draw) -> Tensor:
    """What dropout multiplies each element by."""
    ones = torch.ones_like(like, memory_format=torch.contiguous_format)
    _elementwise(rows.dropout(), draw, ones, factors := torch.empty_like(ones))
    return factors


class _GELUDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, draw: Draw) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x)
        ctx.draw = draw
        _elementwise(rows.gelu_dropout(), draw, x, y := torch.empty_like(x))
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        if differentiated(dy):
            factors = _factors(x, ctx.draw)
            return *differentiable_gradients(lambda x: _definitions.gelu_dropout(x, factors), (x,), dy), None
        _elementwise(rows.gelu_dropout_back(), ctx.draw, x, dy.contiguous(), dx := torch.empty_like(x))
        return dx, None


class _DropoutAdd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, residual: Tensor, x: Tensor, draw: Draw) -> Tensor:
        ctx.draw, ctx.dtype = draw, x.dtype
        residual = residual.contiguous()
        _elementwise(rows.dropout_add(), draw, residual, x.contiguous(), y := torch.empty_like(residual))
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        if differentiated(dy):
            return dy, (dy * _factors(dy, ctx.draw)).to(ctx.dtype), None
        dy = dy.contiguous()
        _elementwise(rows.dropout(), ctx.draw, dy, dx := torch.empty_like(dy, dtype=ctx.dtype))
        return dy, dx, None
