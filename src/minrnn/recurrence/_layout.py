"""Layouts and dtypes that the implementations share.

Sequences are padded, (B, T, ...), of T steps each or of `lengths` (B,); or they are packed as in torch's
`PackedSequence`, (N, ...) with N the sum of all lengths: those who have a step t stand one after the other from row
`starts[t]`, longest sequence first. `lengths` and `starts` are int64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Spans(NamedTuple):
    """Which steps exist, and where they lie."""

    lengths: Tensor | None = None  # (B,); None: all have T steps
    starts: Tensor | None = None  # (T,), of packed sequences


def packed_spans(batch_sizes: Tensor) -> Spans:
    """The spans of a `PackedSequence`, from how many sequences have a step t: batch_sizes (T,), falling."""
    B = int(batch_sizes[0]) if len(batch_sizes) else 0
    ranks = torch.arange(B, device=batch_sizes.device)
    lengths = torch.searchsorted(-batch_sizes, -ranks)  # how many steps have more than b sequences
    return Spans(lengths, batch_sizes.cumsum(0) - batch_sizes)


def size(inputs: Tensor, spans: Spans) -> tuple[int, int]:
    """B, T"""
    if spans.starts is None:
        return inputs.shape[0], inputs.shape[1]
    assert spans.lengths is not None
    return spans.lengths.shape[0], spans.starts.shape[0]


def rows(x: Tensor) -> Tensor:
    """x (B, T, ...) or (N, ...) with rows of adjacent elements; copied only where they are not."""
    return x if x.stride(-1) == 1 else x.contiguous()


def strides(x: Tensor, spans: Spans) -> tuple[int, int]:
    """From b to b + 1 and from the place of a step to the next place."""
    return (x.stride(0), x.stride(0)) if spans.starts is not None else (x.stride(0), x.stride(1))


def empty_rows(x: Tensor, width: Any) -> Tensor:
    """An empty (B, T, width), in the memory order, batch-major or time-major, of x (B, T, ...); (N, width) for
    (N, ...).
    """
    if x.dim() == 2:
        return x.new_empty(x.shape[0], width)
    B, T = x.shape[:2]
    if x.stride(-1) == 1 and x.stride(0) < x.stride(1):
        return x.new_empty(T, B, width).transpose(0, 1)
    return x.new_empty(B, T, width)


def in_memory_order(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """function(*inputs) for inputs (B, T, ...) in either memory order, or packed ones.

    A time-major tensor comes as a transposed view, which a matrix product or `torch.cat` would copy: the function sees
    it as it lies, (T, B, ...), and what it returns is transposed back.
    """
    if inputs[0].is_contiguous() or not all(map(is_time_major, inputs)):
        return function(*inputs)
    return function(*(x.transpose(0, 1) for x in inputs)).transpose(0, 1)


def is_time_major(x: Tensor) -> bool:
    """Whether x (B, T, ...) lies in memory as (T, B, ...)."""
    return x.dim() == 3 and x.stride(0) < x.stride(1) and not x.is_contiguous()


def fresh_state(h: Tensor | None, B: int, H: int, like: Tensor) -> Tensor:
    """A fresh (B, H) state in float32, or float64 for float64 inputs."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    if h is None:
        return like.new_zeros(B, H, dtype=dtype)
    return h.detach().to(dtype=dtype, memory_format=torch.contiguous_format, copy=True)


def parts(name: str) -> tuple[str, str]:
    """ "mingru/tanh" -> ("mingru", "tanh"); "linear" has no activation."""
    step, _, activation = name.partition("/")
    return step, activation or "identity"


def existing(lengths: Tensor, T: int) -> Tensor:
    """Which steps are part of their sequence, (B, T) bool."""
    return torch.arange(T, device=lengths.device) < lengths[:, None]


def unpack(x: Tensor, spans: Spans) -> Tensor:
    """Packed (N, ...) -> padded (B, T, ...), zero where there is no step."""
    lengths, starts = spans
    assert lengths is not None and starts is not None
    there = existing(lengths, starts.shape[0])
    row = torch.where(there, starts + torch.arange(lengths.shape[0], device=starts.device)[:, None], 0)  # (B, T)
    if x.shape[0] == 0:
        return x.new_zeros(*row.shape, *x.shape[1:])
    return torch.where(there.view(*row.shape, *(1,) * (x.dim() - 1)), x[row], 0)


def pack(x: Tensor, spans: Spans) -> Tensor:
    """Padded (B, T, ...) -> packed (N, ...)."""
    lengths, starts = spans
    assert lengths is not None and starts is not None
    there = existing(lengths, starts.shape[0]).T  # (T, B): packed rows are in the order of time
    t, b = there.nonzero(as_tuple=True)
    return x[b, t]
