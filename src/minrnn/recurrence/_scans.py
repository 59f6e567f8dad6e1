"""Parallel scans of plain torch operations: one on any device, and the paper's in log space, kept for comparison and
as evidence.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ._definitions import Recurrence


def scan(
    recurrence: Recurrence,
    inputs: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    reverse: bool,
    there: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """h_t = a_t h_{t-1} + b_t by an odd-even scan: pairs of steps are joined, the half as long sequence is scanned,
    the rest filled in.

    Same arguments and results as `definition`; O(T) work in O(log T) operations.
    """
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    assert recurrence.coefficients is not None
    a, b = recurrence.coefficients(*inputs.to(dtype).chunk(recurrence.inputs, dim=-1))  # (B, T, H)
    h0 = a.new_zeros(a.shape[0], a.shape[2]) if h0 is None else h0.to(dtype)
    if a.shape[1] == 0:
        return b.to(inputs.dtype), h0
    cut = None if reset is None else reset[..., None].expand_as(a)
    if there is not None:  # h = 1 h + 0
        a, b = torch.where(there[..., None], a, 1), torch.where(there[..., None], b, 0)
    if reverse:
        a, b, cut = a.flip(1), b.flip(1), None if cut is None else cut.flip(1)
    first = _joined(a[:, :1], h0[:, None], b[:, :1], None if cut is None else cut[:, :1])
    h = _odd_even(a, torch.cat([first, b[:, 1:]], dim=1), cut)
    h_last = h[:, -1].clone()  # a view would keep all states alive
    return _as_rows(h, there, reverse, inputs.dtype), h_last


def _as_rows(h: Tensor, there: Tensor | None, reverse: bool, dtype: torch.dtype) -> Tensor:
    """States (B, T, H) in the order in which they were walked -> h."""
    h = h.flip(1) if reverse else h
    return (h if there is None else torch.where(there[..., None], h, 0)).to(dtype)


def _joined(a: Tensor, h: Tensor, b: Tensor, cut: Tensor | None) -> Tensor:
    """a * h + b, and b alone where the state is cut off, whatever h is: 0 times infinity is no zero."""
    return a * h + b if cut is None else torch.where(cut, b, a * h.masked_fill(cut, 0) + b)


def _odd_even(a: Tensor, b: Tensor, cut: Tensor | None) -> Tensor:
    """(B, T, H) -> (B, T, H); the first step starts from zero."""
    B, T, H = b.shape
    if T == 1:
        return b
    pairs = T // 2
    even_a, odd_a = a[:, 0 : 2 * pairs : 2], a[:, 1::2]
    even_b, odd_b = b[:, 0 : 2 * pairs : 2], b[:, 1::2]
    even_cut, odd_cut = (None, None) if cut is None else (cut[:, 0 : 2 * pairs : 2], cut[:, 1::2])
    either = None if even_cut is None or odd_cut is None else even_cut | odd_cut
    # States after steps 1, 3, 5, ..., then after 0, 2, 4, ...
    odd = _odd_even(odd_a * even_a, _joined(odd_a, even_b, odd_b, odd_cut), either)
    before = odd.narrow(1, 0, (T - 1) // 2)  # a slice that takes all has no batching rule
    even = torch.cat([b[:, :1], _joined(a[:, 2::2], before, b[:, 2::2], None if cut is None else cut[:, 2::2])], dim=1)
    joined = torch.stack([even.narrow(1, 0, pairs), odd], dim=2).reshape(B, 2 * pairs, H)
    return joined if 2 * pairs == T else torch.cat([joined, even[:, pairs:]], dim=1)


def logspace(
    recurrence: Recurrence,
    inputs: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    reverse: bool,
    there: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """log h_t = A_t + logcumsumexp(log b_t - A_t), A = cumsum(log a) (arXiv 2410.01201, Appendix B; arXiv 2311.06281).

    Same arguments and results as `definition`, for states that stay non-negative. A zeroed state has no logarithm, so
    the stretches between resets are scanned one after the other.

    Raises:
        ValueError: a candidate or h0 is negative (under `torch.compile` they then give NaN); or a compiled call has
            resets.
    """
    if reset is not None:
        return _between_resets(recurrence, inputs, h0, reset, reverse, there)
    compiling = torch.compiler.is_compiling()
    if not compiling and h0 is not None and bool((h0 < 0).any()):
        raise ValueError("h0 has negative elements, which have no logarithm; the logspace backend needs h0 >= 0")
    if recurrence.log_coefficients is None:
        raise ValueError(f"{recurrence.name} has coefficients below zero, which have no logarithm: use another backend")
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    log_a, log_b = recurrence.log_coefficients(*inputs.to(dtype).chunk(recurrence.inputs, dim=-1))  # (B, T, H)
    if there is not None:  # a finite stand-in for log 0: differences of infinities are NaN
        log_a, log_b = torch.where(there[..., None], log_a, 0), torch.where(there[..., None], log_b, -1e30)
    if not compiling and bool((log_a.isnan() | log_b.isnan()).any()):
        raise ValueError(
            f"the logspace backend needs coefficients and candidates >= 0; {recurrence.name} got negative ones or NaN: "
            'use activation="g", or another backend'
        )
    if reverse:
        log_a, log_b = log_a.flip(1), log_b.flip(1)
    if h0 is not None:  # h_0 is one more value in front, with nothing to forget before it
        log_a = torch.cat(
            [torch.zeros_like(log_a[:, :1]) if log_a.shape[1] else log_a.new_zeros(h0[:, None].shape), log_a], dim=1
        )
        log_b = torch.cat([(h0.to(dtype)[:, None] + 1e-30).log(), log_b], dim=1)
    if log_b.shape[1] == 0:
        return log_b.to(inputs.dtype), log_b.new_zeros(log_b.shape[0], log_b.shape[2])
    A = log_a.cumsum(dim=1)
    h = (A + torch.logcumsumexp(log_b - A, dim=1)).exp()
    h_last = h[:, -1].clone()  # a view would keep all states alive
    h = h if h0 is None else h[:, 1:]
    return _as_rows(h, there, reverse, inputs.dtype), h_last


def _between_resets(
    recurrence: Recurrence,
    inputs: Tensor,
    h0: Tensor | None,
    reset: Tensor,
    reverse: bool,
    there: Tensor | None,
) -> tuple[Tensor, Tensor]:
    if torch.compiler.is_compiling():
        raise ValueError('a compiled graph cannot be cut at resets: use another backend than "logspace" with them')
    T = inputs.shape[1]
    if reverse:
        inputs, reset = inputs.flip(1), reset.flip(1)
        there = None if there is None else there.flip(1)
    bounds = sorted({0, T, *reset.any(dim=0).nonzero().flatten().tolist()})
    pieces, state = [inputs[:, :0, : inputs.shape[-1] // recurrence.inputs]], h0
    for start, stop in pairwise(bounds):
        state = None if state is None else state.masked_fill(reset[:, start, None], 0)
        part = None if there is None else there[:, start:stop]
        h, state = logspace(recurrence, inputs[:, start:stop], state, None, False, part)
        pieces.append(h)
    if state is None:
        _, state = logspace(recurrence, inputs, None, None, False, there)
    out = torch.cat(pieces, dim=1)
    return out.flip(1) if reverse else out, state
