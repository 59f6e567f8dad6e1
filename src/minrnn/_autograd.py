"""What the autograd functions of this package share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.autograd import forward_ad


def vjp(function: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """`torch.func.vjp` for a function without auxiliary output, which its own annotation cannot say."""
    return torch.func.vjp(function, *primals)  # type: ignore[return-value]


def nothing_to_record() -> bool:
    """Whether kernels may be called past autograd, whose bookkeeping costs more than a single step of a recurrence.

    Without gradients there may still be tangents, and `torch.vmap`; both need the function.
    """
    return not (
        torch.is_grad_enabled() or forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()
    )
