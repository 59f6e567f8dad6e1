"""The selective scan (arXiv 2312.00752, section 3): every channel e of E has a state of N numbers.

Delta = softplus(delta); h_n <- exp(Delta A_n) h_n + Delta B_n x; y = sum_n C_n h_n + D x, with x and delta (B, T, E),
B and C (B, T, N), A (N, E), D (E,), h (B, N, E).

Channels stand in SIMD lanes, their states in a local array that stays in the cache. The way back needs the states
before every step: the way there leaves those before every `STRETCH`-th in `saved` (B, stretches, N, E), from which a
stretch is walked once more before it is walked back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from ._compile import SOURCES, SUMMING, kernel
from ._memory import (
    read_before0,
    read_before1,
    read_before2,
    read_in,
    read_partial0,
    read_partial1,
    read_state0,
    read_state1,
    read_state2,
    write_before0,
    write_before1,
    write_before2,
    write_out0,
    write_out1,
    write_out2,
    write_partial0,
    write_partial1,
    write_partial2,
    write_state0,
    write_state1,
    write_state2,
)
from ._scalar import exp, sigmoid, softplus, unless_vanished

BLOCK = 64  # channels of a unit of work: N of them in float32 are a few kilobytes
COST = 8  # what an output costs, in elements of the walk: N states, each with an exponential
STRETCH = 32  # steps between saved states: a stretch of states of a block stays in the second cache


@cache
def forward() -> Callable[..., None]:
    """Writes y, the states before each stretch to `saved` unless it is empty, and leaves the last states in `state`."""
    version = SOURCES

    def selective_forward(x, delta, A, B, C, D, y, saved, reset, state, T, E, N, first, last):
        version  # noqa: B018 - part of the cache key
        blocks = (E + BLOCK - 1) // BLOCK
        stretches = (T + STRETCH - 1) // STRETCH
        h = np.empty(N * BLOCK, state.dtype)
        total = np.empty(BLOCK, state.dtype)
        step = np.empty(BLOCK, state.dtype)
        for unit in range(first, last):
            b = unit // blocks
            start = (unit - b * blocks) * BLOCK
            width = min(BLOCK, E - start)
            for n in range(N):
                for c in range(width):
                    write_state0(h, n * BLOCK + c, read_in(state, (b * N + n) * E + start + c))
            for t in range(T):
                if saved.size > 0 and t % STRETCH == 0:
                    for n in range(N):
                        row = ((b * stretches + t // STRETCH) * N + n) * E + start
                        for c in range(width):
                            write_out1(saved, row + c, read_state0(h, n * BLOCK + c))
                if reset.size > 0 and reset[b * T + t]:
                    h[:] = 0
                row = (b * T + t) * E + start
                for c in range(width):
                    write_state1(total, c, read_in(D, start + c) * read_in(x, row + c))
                    write_state2(step, c, softplus(read_in(delta, row + c)))
                for n in range(N):
                    b_n = read_in(B, (b * T + t) * N + n)
                    c_n = read_in(C, (b * T + t) * N + n)
                    for c in range(width):
                        size = read_state2(step, c)
                        kept = exp(size * read_in(A, n * E + start + c)) * read_state0(h, n * BLOCK + c)
                        now = kept + size * read_in(x, row + c) * b_n
                        write_state0(h, n * BLOCK + c, now)
                        write_state1(total, c, read_state1(total, c) + c_n * now)
                for c in range(width):
                    write_out0(y, row + c, read_state1(total, c))
            for n in range(N):
                for c in range(width):
                    write_out2(state, (b * N + n) * E + start + c, read_state0(h, n * BLOCK + c))

    return kernel(selective_forward)


@cache
def backward() -> Callable[..., None]:
    """Writes dx, ddelta and, for each block of channels, the parts of dB and dC, (B, blocks, T, N); adds to dA
    (B, N, E) and dD (B, E) of every sequence; leaves the gradients of the first states in `grad` (B, N, E), which holds
    those of the last states on entry.
    """
    version = SOURCES

    def selective_backward(
        x, delta, A, B, C, D, saved, dy, dx, ddelta, dA, dB, dC, dD, reset, grad, T, E, N, first, last,
    ):  # fmt: skip
        version  # noqa: B018 - part of the cache key
        blocks = (E + BLOCK - 1) // BLOCK
        stretches = (T + STRETCH - 1) // STRETCH
        before = np.empty((STRETCH + 1) * N * BLOCK, grad.dtype)  # states before each step of a stretch and after it
        factor = np.empty(STRETCH * N * BLOCK, grad.dtype)  # exp(Delta A)
        step = np.empty(STRETCH * BLOCK, grad.dtype)  # Delta
        g = np.empty(N * BLOCK, grad.dtype)
        of_x = np.empty(BLOCK, grad.dtype)
        of_step = np.empty(BLOCK, grad.dtype)
        for unit in range(first, last):
            b = unit // blocks
            start = (unit - b * blocks) * BLOCK
            width = min(BLOCK, E - start)
            for n in range(N):
                for c in range(width):
                    write_state0(g, n * BLOCK + c, read_in(grad, (b * N + n) * E + start + c))
            for stretch in range(stretches - 1, -1, -1):
                begin = stretch * STRETCH
                end = min(begin + STRETCH, T)
                for n in range(N):
                    row = ((b * stretches + stretch) * N + n) * E + start
                    for c in range(width):
                        write_before0(before, n * BLOCK + c, read_in(saved, row + c))
                for t in range(begin, end):
                    here = (t - begin) * N * BLOCK
                    if reset.size > 0 and reset[b * T + t]:
                        before[here : here + N * BLOCK] = 0
                    row = (b * T + t) * E + start
                    own = (t - begin) * BLOCK
                    for c in range(width):
                        write_before2(step, own + c, softplus(read_in(delta, row + c)))
                    for n in range(N):
                        b_n = read_in(B, (b * T + t) * N + n)
                        at = here + n * BLOCK
                        for c in range(width):
                            size = read_before2(step, own + c)
                            a = exp(size * read_in(A, n * E + start + c))
                            write_before1(factor, at + c, a)
                            now = a * read_before0(before, at + c) + size * read_in(x, row + c) * b_n
                            write_before0(before, at + N * BLOCK + c, now)
                for t in range(end - 1, begin - 1, -1):
                    here = (t - begin) * N * BLOCK
                    own = (t - begin) * BLOCK
                    row = (b * T + t) * E + start
                    for c in range(width):
                        write_state1(of_x, c, read_in(dy, row + c) * read_in(D, start + c))
                        write_state2(of_step, c, 0)
                        at = b * E + start + c
                        write_partial1(dD, at, read_partial1(dD, at) + read_in(dy, row + c) * read_in(x, row + c))
                    for n in range(N):
                        b_n = read_in(B, (b * T + t) * N + n)
                        c_n = read_in(C, (b * T + t) * N + n)
                        of_b = read_in(D, start) * 0
                        of_c = read_in(D, start) * 0
                        for c in range(width):
                            size = read_before2(step, own + c)
                            a_n = read_in(A, n * E + start + c)
                            v = read_in(x, row + c)
                            up = read_in(dy, row + c)
                            a = read_before1(factor, here + n * BLOCK + c)
                            h = read_before0(before, here + n * BLOCK + c)
                            dh = read_state0(g, n * BLOCK + c) + c_n * up
                            of_c += up * (a * h + size * v * b_n)
                            of_b += dh * size * v
                            dlog = dh * a * h
                            write_state1(of_x, c, read_state1(of_x, c) + dh * size * b_n)
                            write_state2(of_step, c, read_state2(of_step, c) + dlog * a_n + dh * v * b_n)
                            at = (b * N + n) * E + start + c
                            write_partial0(dA, at, read_partial0(dA, at) + dlog * size)
                            write_state0(g, n * BLOCK + c, unless_vanished(dh * a))
                        at = (unit * T + t) * N + n
                        write_partial2(dB, at, of_b)
                        write_partial2(dC, at, of_c)
                    for c in range(width):
                        write_out0(dx, row + c, read_state1(of_x, c))
                        write_out1(ddelta, row + c, read_state2(of_step, c) * sigmoid(read_in(delta, row + c)))
                    if reset.size > 0 and reset[b * T + t]:
                        g[:] = 0
            for n in range(N):
                for c in range(width):
                    write_out2(grad, (b * N + n) * E + start + c, read_state0(g, n * BLOCK + c))

    return kernel(selective_backward, options=SUMMING)
