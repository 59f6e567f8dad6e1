from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._autograd import differentiated
from ..kernels import rows
from ..kernels._threads import parallel
from . import _definitions
from ._common import apply, autocast_dtype, differentiable_gradients, flat, fusable, working_dtype


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    """y = x / sqrt(mean(x^2) + eps) * weight over the last axis (arXiv 1910.07467, equation 4).

    Args:
        x: (..., D), float32, float64 or bfloat16.
        weight: (D,).
        eps: added to the mean square. Default 1e-6.

    Returns:
        (..., D) in the dtype of x; under CPU autocast in autocast's dtype, ready for the next matrix product.

    Example:
        >>> rms_norm(torch.tensor([[3.0, 4.0]]), torch.ones(2))
        tensor([[0.8485, 1.1314]])
    """
    if not x.is_floating_point():
        raise TypeError(f"x has dtype {x.dtype}; expected a floating dtype: call .float() on it")
    if x.shape[-1:] != weight.shape:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}; expected (D,) = ({x.shape[-1]},), the last axis of x"
        )
    if fusable(x, weight):
        return apply(_RMSNorm, x, weight, eps)
    return _definitions.rms_norm(x.to(working_dtype(x)), weight, eps).to(autocast_dtype(x))


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.eps = eps
        y = torch.empty_like(x, dtype=autocast_dtype(x))
        D = x.shape[-1]
        n = x.numel() // D if D else 0
        arguments = (flat(x), flat(weight.to(working_dtype(x))), flat(y), eps, n, D)
        if n:
            parallel(lambda first, last: rows.rms_norm()(*arguments, first, last), -(-n // rows.ROWS), x.numel())
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        if differentiated(dy):
            dx, dweight = differentiable_gradients(lambda x, w: _definitions.rms_norm(x, w, ctx.eps), (x, weight), dy)
            return dx, dweight, None
        D = x.shape[-1]
        n = x.numel() // D if D else 0
        units = -(-n // rows.ROWS)
        dx = torch.empty_like(x)
        partial = weight.new_zeros(units, D, dtype=working_dtype(x))
        arguments = (
            flat(x),
            flat(weight.to(working_dtype(x))),
            flat(dy.contiguous()),
            flat(dx),
            flat(partial),
            ctx.eps,
            n,
            D,
        )
        if n:
            parallel(lambda first, last: rows.rms_norm_back()(*arguments, first, last), units, x.numel())
        return dx, partial.sum(dim=0).to(weight.dtype), None
