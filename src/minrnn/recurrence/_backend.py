"""Which implementation runs: chosen by device, or forced with `backend(name)`."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch

NAMES = ("cpu", "triton", "torch", "logspace", "definition")

# Looked up once: Dynamo of torch 2.10 cannot trace the search.
_ABSENT = {package for package in ("numba", "triton") if importlib.util.find_spec(package) is None}

_forced: list[str] = []


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Run every recurrence inside the block with one implementation.

    The choice holds for the process, not for one thread. Backward passes use the implementation of their forward pass.

    Args:
        name: `"cpu"`, the fused Numba kernels; `"triton"`, the fused CUDA kernel; `"torch"`, a parallel scan of torch
            operations on any
            device; `"logspace"`, the paper's scan of logarithms (positive candidates only); `"definition"`, the loop
            over time.
            By default CPU tensors take `"cpu"`, CUDA tensors `"triton"`, all others `"torch"`.

    Raises:
        ValueError: `name` is not one of these.
        RuntimeError: the implementation is missing here; the message says why. Tensors on the wrong device raise at
            the call.

    Example:
        >>> with backend("logspace"):
        ...     h, h_last = mingru(gate, candidate, activation="g")
    """
    if name not in NAMES:
        raise ValueError(f"backend is {name!r}; expected one of {', '.join(map(repr, NAMES))}")
    if name in ("cpu", "triton") and (reason := missing(name)):
        raise RuntimeError(f"backend {name!r} is not available: {reason}")
    _forced.append(name)
    try:
        yield
    finally:
        _forced.pop()


def missing(name: str) -> str | None:
    """Why a fused implementation cannot run in this process; None where it can."""
    package = {"cpu": "numba", "triton": "triton"}[name]
    if package in _ABSENT:
        return f"{package} is not installed; run `pip install {package}`"
    if name == "triton" and not torch.cuda.is_available() and not _interpreting():
        return "torch sees no CUDA device; on a CPU, set TRITON_INTERPRET=1 to run it in Triton's interpreter"
    return None


def unsuited(name: str, device: torch.device) -> str | None:
    """Why a fused implementation cannot run tensors on `device`; None where it can."""
    suited = ("cpu",) if name == "cpu" or _interpreting() else ("cuda",)
    if device.type in suited:
        return None
    return f"backend {name!r} cannot run tensors on {device}; move them to {suited[0]}, or choose another backend"


def _interpreting() -> bool:
    return os.environ.get("TRITON_INTERPRET") == "1"


_by_device: dict[str, str] = {}


def choose(device: torch.device, preferred: str | None = None) -> str:
    """The implementation for tensors on `device`: the one that `backend` forces, or else the preferred one."""
    if _forced or preferred:
        return _forced[-1] if _forced else str(preferred)
    if device.type not in _by_device:
        fused = {"cpu": "cpu", "cuda": "triton"}.get(device.type)
        _by_device[device.type] = fused if fused and missing(fused) is None else "torch"
    return _by_device[device.type]


def kernels(name: str) -> ModuleType:
    """The module with `forward` and `backward` of a fused implementation; imported at its first use."""
    if name == "cpu":
        from . import _cpu

        return _cpu
    from . import _triton

    return _triton
