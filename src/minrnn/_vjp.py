from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def vjp(function: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """`torch.func.vjp` for a function without auxiliary output, which its own annotation cannot say."""
    return torch.func.vjp(function, *primals)  # type: ignore[return-value]
