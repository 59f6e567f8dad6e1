"""Kernels over the rows of a (rows, D) array: norm, activation and dropout, each one pass where eager torch takes
several; and the product of a matrix with so few rows that reading the matrix is all the work.

Random bits of dropout are a hash of (seed, position), computed again in the backward pass instead of stored.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from . import _scalar
from ._compile import SOURCES, SUMMING, kernel, scalar
from ._memory import read_in, read_partial0, write_out0, write_out1, write_partial0
from ._scalar import gelu, gelu_slope, like

ROWS = 64  # rows in a unit of work of the norm; the sum over them is one partial gradient of its weight
ELEMENTS = 16_384  # elements in a unit of work of the elementwise kernels
OUTPUTS = 16  # outputs in a unit of work of the product


@cache
def rms_norm() -> Callable[..., None]:
    version = SOURCES

    def rms_norm_forward(x, weight, y, eps, rows, D, first, last):
        version  # noqa: B018 - part of the cache key
        for row in range(first * ROWS, min(last * ROWS, rows)):
            squares = like(weight[0], 0.0)
            for c in range(D):
                v = read_in(x, row * D + c)
                squares += v * v
            scale = like(squares, 1.0) / np.sqrt(squares / like(squares, D) + like(squares, eps))
            for c in range(D):
                write_out0(y, row * D + c, read_in(x, row * D + c) * scale * read_in(weight, c))

    return kernel(rms_norm_forward, options=SUMMING)


@cache
def rms_norm_back() -> Callable[..., None]:
    """Writes dx, and one partial dweight (D) for each unit, which holds zeros on entry."""
    version = SOURCES

    def rms_norm_backward(x, weight, dy, dx, partial, eps, rows, D, first, last):
        version  # noqa: B018 - part of the cache key
        for unit in range(first, last):
            for row in range(unit * ROWS, min((unit + 1) * ROWS, rows)):
                squares = like(weight[0], 0.0)
                dot = like(weight[0], 0.0)
                for c in range(D):
                    v = read_in(x, row * D + c)
                    squares += v * v
                    dot += v * read_in(dy, row * D + c) * read_in(weight, c)
                scale = like(squares, 1.0) / np.sqrt(squares / like(squares, D) + like(squares, eps))
                along = dot * scale * scale / like(squares, D)
                for c in range(D):
                    v = read_in(x, row * D + c)
                    g = read_in(dy, row * D + c)
                    write_out0(dx, row * D + c, scale * (g * read_in(weight, c) - v * along))
                    write_partial0(partial, unit * D + c, read_partial0(partial, unit * D + c) + g * v * scale)

    return kernel(rms_norm_backward, options=SUMMING)


@scalar
def _mix(x):
    """A bijection of 32-bit integers whose every output bit depends on every input bit (Wellons' lowbias32)."""
    x = np.uint32(x ^ np.uint32(x >> np.uint32(16)))
    x = np.uint32(x * np.uint32(0x7FEB352D))
    x = np.uint32(x ^ np.uint32(x >> np.uint32(15)))
    x = np.uint32(x * np.uint32(0x846CA68B))
    return np.uint32(x ^ np.uint32(x >> np.uint32(16)))


@scalar
def _kept(i, seed, threshold):
    """Whether element i survives; threshold is p * 2^32."""
    low = np.uint32(seed & 0xFFFFFFFF)
    high = np.uint32(seed >> 32)
    return _mix(np.uint32(_mix(np.uint32(np.uint32(i) ^ low)) + high)) >= np.uint32(threshold)


@cache
def gelu_dropout() -> Callable[..., None]:
    version = SOURCES

    def gelu_dropout_forward(x, y, seed, threshold, scale, n, first, last):
        version  # noqa: B018 - part of the cache key
        for i in range(first * ELEMENTS, min(last * ELEMENTS, n)):
            v = read_in(x, i)
            factor = like(v, scale) if _kept(i, seed, threshold) else like(v, 0.0)
            write_out0(y, i, gelu(v) * factor)

    return kernel(gelu_dropout_forward)


@cache
def gelu_dropout_back() -> Callable[..., None]:
    version = SOURCES

    def gelu_dropout_backward(x, dy, dx, seed, threshold, scale, n, first, last):
        version  # noqa: B018 - part of the cache key
        for i in range(first * ELEMENTS, min(last * ELEMENTS, n)):
            v = read_in(x, i)
            factor = like(v, scale) if _kept(i, seed, threshold) else like(v, 0.0)
            write_out0(dx, i, read_in(dy, i) * gelu_slope(v) * factor)

    return kernel(gelu_dropout_backward)


@cache
def dropout_add() -> Callable[..., None]:
    version = SOURCES

    def dropout_add_forward(residual, x, y, seed, threshold, scale, n, first, last):
        version  # noqa: B018 - part of the cache key
        for i in range(first * ELEMENTS, min(last * ELEMENTS, n)):
            v = read_in(x, i)
            factor = like(v, scale) if _kept(i, seed, threshold) else like(v, 0.0)
            write_out0(y, i, read_in(residual, i) + v * factor)

    return kernel(dropout_add_forward)


@cache
def dropout() -> Callable[..., None]:
    """y = x / (1 - p) where the element is kept, else 0."""
    version = SOURCES

    def dropout_forward(x, y, seed, threshold, scale, n, first, last):
        version  # noqa: B018 - part of the cache key
        for i in range(first * ELEMENTS, min(last * ELEMENTS, n)):
            v = read_in(x, i)
            factor = like(v, scale) if _kept(i, seed, threshold) else like(v, 0.0)
            write_out0(y, i, v * factor)

    return kernel(dropout_forward)


@cache
def product() -> Callable[..., None]:
    """y (rows, E) = x (rows, D) @ weight (E, D).T + bias (E); each row of the weight is read once for all rows of x."""
    version = SOURCES

    def product_forward(x, weight, bias, y, rows, D, E, first, last):
        version  # noqa: B018 - part of the cache key
        for e in range(first * OUTPUTS, min(last * OUTPUTS, E)):
            for row in range(rows):
                total = like(read_in(x, 0), 0.0)
                for d in range(D):
                    total += read_in(x, row * D + d) * read_in(weight, e * D + d)
                write_out0(y, row * E + e, total + read_in(bias, e) if bias.size > 0 else total)

    return kernel(product_forward, options=SUMMING)


GATES: dict[str, tuple[Any, Any]] = {
    "sigmoid": (_scalar.sigmoid, _scalar.sigmoid_slope),
    "silu": (_scalar.silu, _scalar.silu_slope),
    "gelu": (_scalar.gelu, _scalar.gelu_slope),
}


@cache
def gated(activation: str) -> Callable[..., None]:
    """y (rows, D) = x * act(gate); rows of x and gate lie x_at and gate_at apart."""
    activate, _ = GATES[activation]
    version = SOURCES

    def gated_forward(x, x_at, gate, gate_at, y, D, rows, first, last):
        version  # noqa: B018 - part of the cache key
        for row in range(first * ROWS, min(last * ROWS, rows)):
            for c in range(D):
                write_out0(y, row * D + c, read_in(x, row * x_at + c) * activate(read_in(gate, row * gate_at + c)))

    return kernel(gated_forward, activation)


@cache
def gated_back(activation: str) -> Callable[..., None]:
    """Writes dx and dgate, (rows, D) each."""
    activate, slope = GATES[activation]
    version = SOURCES

    def gated_backward(x, x_at, gate, gate_at, dy, dx, dgate, D, rows, first, last):
        version  # noqa: B018 - part of the cache key
        for row in range(first * ROWS, min(last * ROWS, rows)):
            for c in range(D):
                g, upstream = read_in(gate, row * gate_at + c), read_in(dy, row * D + c)
                write_out0(dx, row * D + c, upstream * activate(g))
                write_out1(dgate, row * D + c, upstream * read_in(x, row * x_at + c) * slope(g))

    return kernel(gated_backward, activation)
