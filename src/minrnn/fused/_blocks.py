from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _definitions
from ._common import SMALL_STEP, apply, differentiable_gradients, fusable


def block_linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Block-diagonal linear maps: several matrices, each of blocks that see a part of x of their own.

    The products read and write the parts where they lie, where `einsum` copies x and y into an order of its own.

    Args:
        x: (..., D).
        weight: (N, heads, O, D / heads), in the dtype of x: N matrices of heads blocks.
        bias: (N * heads * O,).

    Returns:
        (..., len(bias)), the outputs of the first matrix first.

    Example:
        >>> y = block_linear(torch.randn(8, 100, 128), torch.randn(2, 4, 32, 32), torch.zeros(256))
    """
    if torch.is_autocast_enabled("cpu") and x.is_cpu and x.dtype != torch.float64:
        dtype = torch.get_autocast_dtype("cpu")
        x, weight, bias = x.to(dtype), weight.to(dtype), bias.to(dtype)
    if x.dtype == weight.dtype == bias.dtype and fusable(x, weight, bias) and x.numel() > SMALL_STEP:
        return apply(_BlockLinear, x, weight, bias)
    return _definitions.block_linear(x, weight, bias)


class _BlockLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        N, heads, out, into = weight.shape
        inputs = x.reshape(-1, heads, into)
        outputs = x.new_empty(len(inputs), N, heads, out)
        for n in range(N):
            for head in range(heads):
                b = bias.view(N, heads, out)[n, head]
                torch.addmm(b, inputs[:, head], weight[n, head].t(), out=outputs[:, n, head])
        return outputs.view(*x.shape[:-1], len(bias))

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, ...]:
        x, weight, bias = ctx.saved_tensors
        if torch.is_grad_enabled():
            return differentiable_gradients(_definitions.block_linear, (x, weight, bias), dy)
        N, heads, out, into = weight.shape
        inputs, upstream = x.reshape(-1, heads, into), dy.reshape(-1, N, heads, out)
        dx, dweight = torch.zeros_like(inputs), torch.empty_like(weight)
        for head in range(heads):
            for n in range(N):
                dx[:, head].addmm_(upstream[:, n, head], weight[n, head])
                torch.mm(upstream[:, n, head].t(), inputs[:, head], out=dweight[n, head])
        return dx.view_as(x), dweight, dy.reshape(-1, len(bias)).sum(dim=0)
