"""Depthwise causal convolution over time. `full` (B, W-1+T, D) is the input with the window of W-1 earlier steps in
front.

y[b, t] = bias + sum_w weight[w] * full[b, t + w]; a step sees only the `reach[b, t]` steps before it, which a reset
shortens.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from ._compile import SOURCES, kernel
from ._memory import read_in, read_partial0, read_state0, write_out0, write_partial0, write_state0

STEPS = 64  # time steps in a unit of work


@cache
def causal_conv() -> Callable[..., None]:
    version = SOURCES

    def causal_conv_forward(full, weight, bias, reach, y, T, D, W, first, last):
        version  # noqa: B018 - part of the cache key
        pieces = (T + STEPS - 1) // STEPS
        total = np.empty_like(bias)
        for unit in range(first, last):
            b = unit // pieces
            start = (unit - b * pieces) * STEPS
            for t in range(start, min(start + STEPS, T)):
                for c in range(D):
                    write_state0(total, c, read_in(bias, c))
                for w in range(W):
                    if reach.size > 0 and reach[b * T + t] < W - 1 - w:
                        continue
                    row = (b * (W - 1 + T) + t + w) * D
                    for c in range(D):
                        v = read_in(weight, w * D + c) * read_in(full, row + c)
                        write_state0(total, c, read_state0(total, c) + v)
                for c in range(D):
                    write_out0(y, (b * T + t) * D + c, read_state0(total, c))

    return kernel(causal_conv_forward)


@cache
def causal_conv_back() -> Callable[..., None]:
    """Writes dfull, and for each unit partial gradients (W + 1, D) of weight and bias, which hold zeros on entry."""
    version = SOURCES

    def causal_conv_backward(full, weight, reach, dy, dfull, partial, T, D, W, first, last):
        version  # noqa: B018 - part of the cache key
        pieces = (W - 1 + T + STEPS - 1) // STEPS
        total = np.empty_like(weight)
        for unit in range(first, last):
            b = unit // pieces
            start = (unit - b * pieces) * STEPS
            for s in range(start, min(start + STEPS, W - 1 + T)):
                for c in range(D):
                    write_state0(total, c, 0)
                for w in range(W):
                    t = s - w
                    if t < 0 or t >= T or (reach.size > 0 and reach[b * T + t] < W - 1 - w):
                        continue
                    for c in range(D):
                        g = read_in(dy, (b * T + t) * D + c)
                        write_state0(total, c, read_state0(total, c) + read_in(weight, w * D + c) * g)
                        at = (unit * (W + 1) + w) * D + c
                        v = read_in(full, (b * (W - 1 + T) + s) * D + c)
                        write_partial0(partial, at, read_partial0(partial, at) + g * v)
                for c in range(D):
                    write_out0(dfull, (b * (W - 1 + T) + s) * D + c, read_state0(total, c))
                if s < T:
                    for c in range(D):
                        at = (unit * (W + 1) + W) * D + c
                        write_partial0(partial, at, read_partial0(partial, at) + read_in(dy, (b * T + s) * D + c))

    return kernel(causal_conv_backward)
