from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .._autograd import differentiated
from . import _definitions
from ._common import SMALL_STEP, apply, differentiable_gradients, fusable

WIDE = 64  # columns of a product that runs at full speed


class BlockLinear(nn.Module):
    """Block-diagonal linear maps: several matrices of blocks, each of which sees its own part of x.

    The products read and write the parts where they lie, where `einsum` copies x and y into an order of its own.

    Args:
        width: D.
        matrices: N, how many maps of the same x. Default 1.
        heads: blocks of each; D must be a multiple.
        bias: add a bias, zeros at first. Default True.

    Weights: weight (N, heads, D / heads, D / heads), of variance heads / D; bias (N * D,).

    Call: x (..., D) -> (..., N * D), the outputs of the first matrix first.

    Example:
        >>> BlockLinear(128, matrices=2, heads=4)(torch.randn(8, 100, 128)).shape
        torch.Size([8, 100, 256])
    """

    def __init__(self, width: int, *, matrices: int = 1, heads: int, bias: bool = True) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"heads is {heads}; expected a divisor of the width {width}")
        self.width = width
        block = width // heads
        self.weight = nn.Parameter(torch.randn(matrices, heads, block, block) * block**-0.5)
        self.bias = nn.Parameter(torch.zeros(matrices * width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., N * D)"""
        weight: Tensor = self.weight
        bias: Tensor | None = self.bias
        if torch.is_autocast_enabled("cpu") and x.is_cpu and x.dtype != torch.float64:
            dtype = torch.get_autocast_dtype("cpu")
            x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        if x.dtype == weight.dtype and fusable(x, weight) and x.numel() > SMALL_STEP:
            return apply(_BlockLinear, x, _joined(weight), bias)
        return _definitions.block_linear(x, weight, bias)

    def extra_repr(self) -> str:
        N, heads, _, _ = self.weight.shape
        return f"{self.width}, matrices={N}, heads={heads}, bias={self.bias is not None}"


def _joined(weight: Tensor) -> Tensor:
    """weight (N, heads, d, d) with neighbouring blocks put into larger ones, zeros between them: products of a few
    columns run at a fraction of the speed of those of 64.
    """
    N, heads, d, _ = weight.shape
    count = max(c for c in range(1, heads + 1) if heads % c == 0 and (c == 1 or c * d <= WIDE))
    if count == 1:
        return weight
    one = torch.eye(count, dtype=weight.dtype, device=weight.device)[:, None, :, None]
    apart = weight.view(N, heads // count, count, d, 1, d) * one
    return apart.view(N, heads // count, count * d, count * d)


class _BlockLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        N, heads, out, into = weight.shape
        inputs = x.reshape(-1, heads, into)
        outputs = x.new_empty(len(inputs), N, heads, out)
        for n in range(N):
            for head in range(heads):
                into_y = outputs[:, n, head]
                if bias is None:
                    torch.mm(inputs[:, head], weight[n, head].t(), out=into_y)
                else:
                    torch.addmm(bias.view(N, heads, out)[n, head], inputs[:, head], weight[n, head].t(), out=into_y)
        return outputs.view(*x.shape[:-1], N * heads * out)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        if differentiated(dy):
            given = (x, weight) if bias is None else (x, weight, bias)
            gradients = differentiable_gradients(_definitions.block_linear, given, dy)
            return *gradients, *[None] * (3 - len(gradients))
        N, heads, out, into = weight.shape
        inputs, upstream = x.reshape(-1, heads, into), dy.reshape(-1, N, heads, out)
        dx, dweight = torch.zeros_like(inputs), torch.empty_like(weight)
        for head in range(heads):
            for n in range(N):
                dx[:, head].addmm_(upstream[:, n, head], weight[n, head])
                torch.mm(upstream[:, n, head].t(), inputs[:, head], out=dweight[n, head])
        dbias = None if bias is None else dy.reshape(-1, len(bias)).sum(dim=0)
        return dx.view_as(x), dweight, dbias
