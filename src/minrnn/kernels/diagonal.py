"""A diagonal state space (arXiv 2206.11893): every channel e of E has M complex numbers that turn and shrink.

s_m <- a_m s_m + u;  y = Re sum_m c_m s_m + d u, with u and y (B, T, E), a and c (2 * M, E), real parts before imaginary
ones, as in the states s (B, 2 * M, E), and d (E,).

Laid out as the selective scan is: channels in SIMD lanes, states in a local array, those before every `STRETCH`-th step
in `saved` (B, stretches, 2 * M, E) for the way back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from ._compile import SOURCES, kernel
from ._memory import (
    read_before0,
    read_in,
    read_partial0,
    read_partial1,
    read_partial2,
    read_state0,
    read_state1,
    write_before0,
    write_out0,
    write_out1,
    write_out2,
    write_partial0,
    write_partial1,
    write_partial2,
    write_state0,
    write_state1,
)
from ._scalar import unless_vanished

BLOCK = 32  # channels of a unit of work
COST = 16  # what an output costs, in elements of the walk
STRETCH = 16  # steps between saved states


@cache
def forward() -> Callable[..., None]:
    """Writes y, the states before each stretch to `saved` unless it is empty, and leaves the last states in `state`."""
    version = SOURCES

    def diagonal_forward(u, a, c, d, y, saved, reset, state, T, E, M, first, last):
        version  # noqa: B018 - part of the cache key
        blocks = (E + BLOCK - 1) // BLOCK
        stretches = (T + STRETCH - 1) // STRETCH
        s = np.empty(2 * M * BLOCK, state.dtype)
        total = np.empty(BLOCK, state.dtype)
        for unit in range(first, last):
            b = unit // blocks
            start = (unit - b * blocks) * BLOCK
            width = min(BLOCK, E - start)
            for m in range(2 * M):
                for e in range(width):
                    write_state0(s, m * BLOCK + e, read_in(state, (b * 2 * M + m) * E + start + e))
            for t in range(T):
                if saved.size > 0 and t % STRETCH == 0:
                    for m in range(2 * M):
                        row = ((b * stretches + t // STRETCH) * 2 * M + m) * E + start
                        for e in range(width):
                            write_out1(saved, row + e, read_state0(s, m * BLOCK + e))
                if reset.size > 0 and reset[b * T + t]:
                    s[:] = 0
                row = (b * T + t) * E + start
                for e in range(width):
                    write_state1(total, e, read_in(d, start + e) * read_in(u, row + e))
                for m in range(M):
                    re, im = m * E + start, (M + m) * E + start
                    s_re, s_im = m * BLOCK, (M + m) * BLOCK
                    for e in range(width):
                        x, z = read_state0(s, s_re + e), read_state0(s, s_im + e)
                        now = read_in(a, re + e) * x - read_in(a, im + e) * z + read_in(u, row + e)
                        turned = read_in(a, im + e) * x + read_in(a, re + e) * z
                        write_state0(s, s_re + e, now)
                        write_state0(s, s_im + e, turned)
                        seen = read_in(c, re + e) * now - read_in(c, im + e) * turned
                        write_state1(total, e, read_state1(total, e) + seen)
                for e in range(width):
                    write_out0(y, row + e, read_state1(total, e))
            for m in range(2 * M):
                for e in range(width):
                    write_out2(state, (b * 2 * M + m) * E + start + e, read_state0(s, m * BLOCK + e))

    return kernel(diagonal_forward)


@cache
def backward() -> Callable[..., None]:
    """Writes du; adds to da, dc (B, 2 * M, E) and dd (B, E) of every sequence; leaves the gradients of the first states
    in `grad` (B, 2 * M, E), which holds those of the last states on entry.
    """
    version = SOURCES

    def diagonal_backward(u, a, c, d, saved, dy, du, da, dc, dd, reset, grad, T, E, M, first, last):
        version  # noqa: B018 - part of the cache key
        blocks = (E + BLOCK - 1) // BLOCK
        stretches = (T + STRETCH - 1) // STRETCH
        before = np.empty(STRETCH * 2 * M * BLOCK, grad.dtype)  # states before each step, zero after a reset
        g = np.empty(2 * M * BLOCK, grad.dtype)
        total = np.empty(BLOCK, grad.dtype)
        for unit in range(first, last):
            b = unit // blocks
            start = (unit - b * blocks) * BLOCK
            width = min(BLOCK, E - start)
            for m in range(2 * M):
                for e in range(width):
                    write_state0(g, m * BLOCK + e, read_in(grad, (b * 2 * M + m) * E + start + e))
            for stretch in range(stretches - 1, -1, -1):
                begin = stretch * STRETCH
                end = min(begin + STRETCH, T)
                for m in range(2 * M):
                    row = ((b * stretches + stretch) * 2 * M + m) * E + start
                    for e in range(width):
                        write_before0(before, m * BLOCK + e, read_in(saved, row + e))
                for t in range(begin, end):
                    here = (t - begin) * 2 * M * BLOCK
                    if reset.size > 0 and reset[b * T + t]:
                        before[here : here + 2 * M * BLOCK] = 0
                    if t + 1 == end:
                        continue
                    row = (b * T + t) * E + start
                    for m in range(M):
                        re, im = m * E + start, (M + m) * E + start
                        s_re, s_im = here + m * BLOCK, here + (M + m) * BLOCK
                        for e in range(width):
                            x, z = read_before0(before, s_re + e), read_before0(before, s_im + e)
                            now = read_in(a, re + e) * x - read_in(a, im + e) * z + read_in(u, row + e)
                            write_before0(before, s_re + 2 * M * BLOCK + e, now)
                            turned = read_in(a, im + e) * x + read_in(a, re + e) * z
                            write_before0(before, s_im + 2 * M * BLOCK + e, turned)
                for t in range(end - 1, begin - 1, -1):
                    here = (t - begin) * 2 * M * BLOCK
                    row = (b * T + t) * E + start
                    for e in range(width):
                        write_state1(total, e, read_in(dy, row + e) * read_in(d, start + e))
                        at = b * E + start + e
                        write_partial2(dd, at, read_partial2(dd, at) + read_in(dy, row + e) * read_in(u, row + e))
                    for m in range(M):
                        re, im = m * E + start, (M + m) * E + start
                        s_re, s_im = m * BLOCK, (M + m) * BLOCK
                        of_re, of_im = b * 2 * M * E + re, b * 2 * M * E + im
                        for e in range(width):
                            x, z = read_before0(before, here + s_re + e), read_before0(before, here + s_im + e)
                            a_re, a_im = read_in(a, re + e), read_in(a, im + e)
                            now = a_re * x - a_im * z + read_in(u, row + e)
                            turned = a_im * x + a_re * z
                            up = read_in(dy, row + e)
                            g_re = read_state0(g, s_re + e) + up * read_in(c, re + e)
                            g_im = read_state0(g, s_im + e) - up * read_in(c, im + e)
                            write_partial1(dc, of_re + e, read_partial1(dc, of_re + e) + up * now)
                            write_partial1(dc, of_im + e, read_partial1(dc, of_im + e) - up * turned)
                            write_partial0(da, of_re + e, read_partial0(da, of_re + e) + g_re * x + g_im * z)
                            write_partial0(da, of_im + e, read_partial0(da, of_im + e) - g_re * z + g_im * x)
                            write_state1(total, e, read_state1(total, e) + g_re)
                            write_state0(g, s_re + e, unless_vanished(a_re * g_re + a_im * g_im))
                            write_state0(g, s_im + e, unless_vanished(a_re * g_im - a_im * g_re))
                    for e in range(width):
                        write_out0(du, row + e, read_state1(total, e))
                    if reset.size > 0 and reset[b * T + t]:
                        g[:] = 0
            for m in range(2 * M):
                for e in range(width):
                    write_out2(grad, (b * 2 * M + m) * E + start + e, read_state0(g, m * BLOCK + e))

    return kernel(diagonal_backward)
