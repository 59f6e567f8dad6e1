"""What the autograd functions of this package share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def vjp(function: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """`torch.func.vjp` for a function without auxiliary output, which its own annotation cannot say."""
    return torch.func.vjp(function, *primals)  # type: ignore[return-value]


def forward_mode() -> bool:
    """Whether tangents may be around, which plain torch operations carry to any order."""
    return forward_ad._current_level >= 0


def mapped(x: Tensor) -> bool:
    """Whether x stands for many tensors, as upstream gradients do with `is_grads_batched`: kernels would see one."""
    return torch._C._functorch.is_legacy_batchedtensor(x)


def beyond_kernels(*upstream: Tensor) -> bool:
    """Whether gradients have tangents, or stand for many: no `autograd.Function` of kernels carries either."""
    return forward_mode() or any(map(mapped, upstream))


def differentiated(*upstream: Tensor) -> bool:
    """Whether a backward pass has to be torch operations: it is differentiated itself, in either mode, or mapped."""
    return torch.is_grad_enabled() or beyond_kernels(*upstream)


def nothing_to_record() -> bool:
    """Whether kernels may be called past autograd, whose bookkeeping costs more than a single step of a recurrence.

    Without gradients there may still be tangents, and `torch.vmap`; both need the function.
    """
    return not (torch.is_grad_enabled() or forward_mode() or torch._C._are_functorch_transforms_active())
