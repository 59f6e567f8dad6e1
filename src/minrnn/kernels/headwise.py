"""sLSTM (arXiv 2405.04517, equations 8 to 18): a recurrence whose channels see one another within a head, d of them.

(i, f, z, o) = x_t + R h_{t-1}; m' = max(log sigmoid(f) + m, i), or i where n = 0, which is before
the first step; i' = exp(i - m'), f' = sigmoid(f) exp(m - m'); c <- f' c + i' tanh(z), n <- f' n + i', h = sigmoid(o)
c / n.

x comes as the logits [i | f] and [z | o], both (B, T, 2 * E); R is (heads, d, 4 * d), from channel to logits; the state
(B, 4, E) holds h, c, n and m. A head of one sequence is a unit of work. Its matrix stays in the cache; logits stand in
SIMD lanes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from ._compile import SOURCES, kernel, scalar
from ._memory import (
    read_before0,
    read_before1,
    read_before2,
    read_in,
    read_partial0,
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
    write_state0,
    write_state1,
    write_state2,
)
from ._scalar import exp, larger, like, sigmoid, softplus, tanh, unless_vanished

COST = 256  # what an output costs, in elements of the walk: d multiply-adds for each of 4 logits
STRETCH = 1  # the states before every step are kept


STEPS_AT_ONCE = 4  # whose parts of dR are added in one pass


@scalar
def add_recurrent(logits, s, R, head, d):
    """logits += R h, four channels in one pass over the logits."""
    for k in range(0, d - 3, 4):
        h0, h1, h2, h3 = read_state0(s, k), read_state0(s, k + 1), read_state0(s, k + 2), read_state0(s, k + 3)
        row = (head * d + k) * 4 * d
        for j in range(4 * d):
            first = h0 * read_in(R, row + j) + h1 * read_in(R, row + 4 * d + j)
            second = h2 * read_in(R, row + 8 * d + j) + h3 * read_in(R, row + 12 * d + j)
            write_state1(logits, j, read_state1(logits, j) + (first + second))
    for k in range(d - d % 4, d):
        h = read_state0(s, k)
        row = (head * d + k) * 4 * d
        for j in range(4 * d):
            write_state1(logits, j, read_state1(logits, j) + h * read_in(R, row + j))


@scalar
def pull_back(g, dlogits, turned, d):
    """g = R^T dlogits for the hidden state, from R with rows of logits; four logits in one pass over the channels."""
    for k in range(d):
        write_before0(g, k, 0)
    for j in range(0, 4 * d, 4):
        d0, d1 = read_state1(dlogits, j), read_state1(dlogits, j + 1)
        d2, d3 = read_state1(dlogits, j + 2), read_state1(dlogits, j + 3)
        row = j * d
        for k in range(d):
            first = d0 * read_before2(turned, row + k) + d1 * read_before2(turned, row + d + k)
            second = d2 * read_before2(turned, row + 2 * d + k) + d3 * read_before2(turned, row + 3 * d + k)
            write_before0(g, k, read_before0(g, k) + (first + second))


@scalar
def add_products(dR, row_of_dR, h, dlogits, steps, d):
    """dR += h dlogits^T, summed over up to four steps."""
    for n in range(steps * d, STEPS_AT_ONCE * d):
        write_state2(h, n, 0)
    for k in range(d):
        h0, h1, h2, h3 = read_state2(h, k), read_state2(h, d + k), read_state2(h, 2 * d + k), read_state2(h, 3 * d + k)
        row = (row_of_dR + k) * 4 * d
        for j in range(4 * d):
            first = h0 * read_before1(dlogits, j) + h1 * read_before1(dlogits, 4 * d + j)
            second = h2 * read_before1(dlogits, 8 * d + j) + h3 * read_before1(dlogits, 12 * d + j)
            write_partial0(dR, row + j, read_partial0(dR, row + j) + (first + second))


@cache
def forward() -> Callable[..., None]:
    """Writes y, the states before each step to `saved` unless it is empty, and leaves the last states in `state`."""
    version = SOURCES

    def headwise_forward(input_forget, cell_output, R, y, saved, reset, state, T, E, d, first, last):
        version  # noqa: B018 - part of the cache key
        heads = E // d
        s = np.empty(4 * d, state.dtype)
        logits = np.empty(4 * d, state.dtype)
        for unit in range(first, last):
            b = unit // heads
            head = unit - b * heads
            start = head * d
            for part in range(4):
                for e in range(d):
                    write_state0(s, part * d + e, read_in(state, (b * 4 + part) * E + start + e))
            for t in range(T):
                if saved.size > 0:
                    for part in range(4):
                        row = ((b * T + t) * 4 + part) * E + start
                        for e in range(d):
                            write_out1(saved, row + e, read_state0(s, part * d + e))
                if reset.size > 0 and reset[b * T + t]:
                    s[:] = 0
                for part in range(2):
                    row = ((b * T + t) * 2 + part) * E + start
                    for e in range(d):
                        write_state1(logits, part * d + e, read_in(input_forget, row + e))
                        write_state1(logits, (2 + part) * d + e, read_in(cell_output, row + e))
                add_recurrent(logits, s, R, head, d)
                for e in range(d):
                    i, f = read_state1(logits, e), read_state1(logits, d + e)
                    z, o = read_state1(logits, 2 * d + e), read_state1(logits, 3 * d + e)
                    c, n, m = read_state0(s, d + e), read_state0(s, 2 * d + e), read_state0(s, 3 * d + e)
                    zero = like(n, 0.0)
                    faded = m - softplus(-f)
                    now = larger(faded, i) if n > zero else i
                    input = exp(i - now)
                    forget = exp(faded - now) if n > zero else zero
                    c = forget * c + input * tanh(z)
                    n = forget * n + input
                    h = sigmoid(o) * c / n
                    write_state0(s, e, h)
                    write_state0(s, d + e, c)
                    write_state0(s, 2 * d + e, n)
                    write_state0(s, 3 * d + e, now)
                    write_out0(y, (b * T + t) * E + start + e, h)
            for part in range(4):
                for e in range(d):
                    write_out2(state, (b * 4 + part) * E + start + e, read_state0(s, part * d + e))

    return kernel(headwise_forward)


@cache
def backward() -> Callable[..., None]:
    """Writes both gradients of logits; adds to dR (B, heads, d, 4 * d) of every sequence; leaves the gradients of the
    first states in `grad` (B, 4, E), which holds those of the last states on entry. None goes through m, which cancels
    out of h.
    """
    version = SOURCES

    def headwise_backward(
        input_forget, cell_output, R, saved, dy, dinput_forget, dcell_output, dR, reset, grad, T, E, d, first, last,
    ):  # fmt: skip
        version  # noqa: B018 - part of the cache key
        heads = E // d
        g = np.empty(4 * d, grad.dtype)  # of h, c and n
        logits = np.empty(4 * d, grad.dtype)
        s = np.empty(4 * d, grad.dtype)  # before the step
        turned = np.empty(4 * d * d, grad.dtype)
        h_kept = np.empty(STEPS_AT_ONCE * d, grad.dtype)
        kept = np.zeros(STEPS_AT_ONCE * 4 * d, grad.dtype)
        for unit in range(first, last):
            b = unit // heads
            head = unit - b * heads
            start = head * d
            pending = 0
            for k in range(d):
                for j in range(4 * d):
                    write_before2(turned, j * d + k, read_in(R, (head * d + k) * 4 * d + j))
            for part in range(4):
                for e in range(d):
                    write_before0(g, part * d + e, read_in(grad, (b * 4 + part) * E + start + e))
            for t in range(T - 1, -1, -1):
                is_reset = reset.size > 0 and reset[b * T + t]
                for part in range(4):
                    row = ((b * T + t) * 4 + part) * E + start
                    for e in range(d):
                        write_state0(s, part * d + e, read_in(saved, row + e))
                for part in range(2):
                    row = ((b * T + t) * 2 + part) * E + start
                    for e in range(d):
                        write_state1(logits, part * d + e, read_in(input_forget, row + e))
                        write_state1(logits, (2 + part) * d + e, read_in(cell_output, row + e))
                if is_reset:
                    s[:] = 0
                add_recurrent(logits, s, R, head, d)
                for e in range(d):
                    i, f = read_state1(logits, e), read_state1(logits, d + e)
                    z, o = tanh(read_state1(logits, 2 * d + e)), sigmoid(read_state1(logits, 3 * d + e))
                    c, n, m = read_state0(s, d + e), read_state0(s, 2 * d + e), read_state0(s, 3 * d + e)
                    zero, one = like(n, 0.0), like(n, 1.0)
                    faded = m - softplus(-f)
                    now = larger(faded, i) if n > zero else i
                    input = exp(i - now)
                    forget = exp(faded - now) if n > zero else zero
                    c_now = forget * c + input * z
                    n_now = forget * n + input
                    dh = read_in(dy, (b * T + t) * E + start + e) + read_before0(g, e)
                    dc = read_before0(g, d + e) + dh * o / n_now
                    dn = read_before0(g, 2 * d + e) - dh * o * c_now / (n_now * n_now)
                    write_state1(logits, e, (dc * z + dn) * input)
                    write_state1(logits, d + e, (dc * c + dn * n) * forget * sigmoid(-f))
                    write_state1(logits, 2 * d + e, dc * input * (one - z * z))
                    write_state1(logits, 3 * d + e, dh * c_now / n_now * o * (one - o))
                    write_before0(g, d + e, unless_vanished(dc * forget))
                    write_before0(g, 2 * d + e, unless_vanished(dn * forget))
                    write_before0(g, 3 * d + e, zero)
                for part in range(2):
                    row = ((b * T + t) * 2 + part) * E + start
                    for e in range(d):
                        write_out0(dinput_forget, row + e, read_state1(logits, part * d + e))
                        write_out1(dcell_output, row + e, read_state1(logits, (2 + part) * d + e))
                for k in range(d):  # kept until there are steps enough for one pass over dR
                    write_state2(h_kept, pending * d + k, read_state0(s, k))
                for j in range(4 * d):
                    write_before1(kept, pending * 4 * d + j, read_state1(logits, j))
                pending += 1
                if pending == STEPS_AT_ONCE or t == 0:
                    add_products(dR, (b * heads + head) * d, h_kept, kept, pending, d)
                    pending = 0
                pull_back(g, logits, turned, d)
                if is_reset:
                    g[:] = 0
            for part in range(4):
                for e in range(d):
                    write_out2(grad, (b * 4 + part) * E + start + e, read_before0(g, part * d + e))

    return kernel(headwise_backward)
