from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._autograd import differentiated
from ..kernels import rows
from ..kernels._threads import parallel
from . import _definitions
from ._common import SMALL_STEP, apply, differentiable_gradients, flat, fusable


def gated(x: Tensor, gate: Tensor, activation: str = "silu") -> Tensor:
    """x * act(gate), elementwise (the gated units of arXiv 2002.05202).

    Args:
        x, gate: (..., D) of one shape and dtype; halves of one projection are read where they lie.
        activation: "silu" (default), "sigmoid" or "gelu" (tanh form).

    Returns:
        (..., D) in the dtype of x.

    Example:
        >>> x, gate = torch.randn(8, 100, 128).chunk(2, dim=-1)
        >>> y = gated(x, gate, "gelu")
    """
    if activation not in rows.GATES:
        raise ValueError(f"activation is {activation!r}; expected one of {', '.join(map(repr, rows.GATES))}")
    if x.shape != gate.shape:
        raise ValueError(f"gate has shape {tuple(gate.shape)}; expected that of x, {tuple(x.shape)}")
    if x.dtype == gate.dtype and fusable(x, gate) and x.numel() > SMALL_STEP:
        return apply(_Gated, x, gate, activation)
    return _definitions.gated(x, gate, activation).to(x.dtype)


def _row_array(x: Tensor) -> tuple[Any, int]:
    """The memory of x from its first element on, and how far apart its rows are."""
    D = x.shape[-1]
    try:
        matrix = x.view(-1, D) if x.stride(-1) == 1 else x.reshape(-1, D).contiguous()
    except RuntimeError:  # its rows are not at one distance
        matrix = x.reshape(-1, D)
    n, distance = matrix.shape[0], matrix.stride(0)
    return flat(matrix.as_strided(((n - 1) * distance + D,), (1,))), distance


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor, activation: str) -> Tensor:
        ctx.save_for_backward(x, gate)
        ctx.activation = activation
        y = x.new_empty(x.shape)
        D = x.shape[-1]
        n = x.numel() // D
        arguments = (*_row_array(x), *_row_array(gate), flat(y), D, n)
        kernel = rows.gated(activation)
        parallel(lambda first, last: kernel(*arguments, first, last), -(-n // rows.ROWS), x.numel())
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, gate = ctx.saved_tensors
        if differentiated(dy):
            activation = ctx.activation
            return *differentiable_gradients(lambda x, g: _definitions.gated(x, g, activation), (x, gate), dy), None
        dx, dgate = x.new_empty(x.shape), x.new_empty(x.shape)
        D = x.shape[-1]
        n = x.numel() // D
        arguments = (*_row_array(x), *_row_array(gate), flat(dy), flat(dx), flat(dgate), D, n)
        kernel = rows.gated_back(ctx.activation)
        parallel(lambda first, last: kernel(*arguments, first, last), -(-n // rows.ROWS), x.numel())
        return dx, dgate, None
