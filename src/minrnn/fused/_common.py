from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .._autograd import forward_mode, nothing_to_record, vjp

_PLAIN = (Tensor, nn.Parameter)  # others, such as quantised weights, have no memory of their own to read
_DTYPES = (torch.float32, torch.float64, torch.bfloat16)

SMALL_STEP = 16_384  # elements of a single step, up to which calling a kernel costs more than its work


def fusable(*tensors: Tensor) -> bool:
    """Whether the Numba kernels can take these tensors here; elsewhere, under `torch.func` and in forward mode, the
    definitions run.
    """
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or forward_mode():
        return False
    return all([t.is_cpu and t.dtype in _DTYPES and type(t) in _PLAIN for t in tensors])


def apply(function: type[torch.autograd.Function], *arguments: Any) -> Tensor:
    """`function.apply(*arguments)`, past its bookkeeping where there is nothing to record."""
    if nothing_to_record():
        return function.forward(_Forgetful(), *arguments)  # type: ignore[no-any-return]
    return function.apply(*arguments)  # type: ignore[no-any-return,no-untyped-call]


class _Forgetful:
    """The context of a function that has no backward pass."""

    def save_for_backward(self, *tensors: Tensor | None) -> None: ...


def working_dtype(x: Tensor) -> torch.dtype:
    """float32, or float64 for float64: what kernels compute in, and the dtype of the weights that they read."""
    return torch.promote_types(x.dtype, torch.float32)


def autocast_dtype(x: Tensor) -> torch.dtype:
    """The dtype that a following matrix product wants: autocast's, so that it need not convert x."""
    if x.dtype == torch.float32 and torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        return dtype if dtype in _DTYPES else x.dtype
    return x.dtype


def flat(x: Tensor) -> np.ndarray[Any, Any]:
    """A tensor as a flat array, its own memory if it is contiguous; bfloat16 as uint16. Kernels know no strides."""
    x = x.detach()
    x = x if x.is_contiguous() else x.contiguous()
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy().reshape(-1)


def differentiable_gradients(
    definition: Callable[..., Tensor], inputs: Sequence[Tensor], dy: Tensor
) -> tuple[Tensor, ...]:
    """The gradients of a definition as differentiable operations: what a fused backward stands for when it is
    differentiated itself.
    """
    y, pull_back = vjp(definition, *inputs)
    return pull_back(dy.to(y.dtype))  # type: ignore[no-any-return]
