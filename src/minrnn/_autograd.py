"""What the autograd functions of this package share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def vjp(function: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """`torch.func.vjp` for a function without auxiliary output, which its own annotation cannot say."""
    return torch.func.vjp(function, *primals)  # type: ignore[return-value]


def nothing_to_record() -> bool:
    """Whether kernels may be called past autograd, whose bookkeeping costs more than a single step of a recurrence.

    In inference mode there are neither gradients nor tangents; `torch.vmap` is still possible, and needs the function.
    """
    return torch.is_inference_mode_enabled() and not torch._C._are_functorch_transforms_active()
