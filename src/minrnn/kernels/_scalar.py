"""Scalar functions that kernels are made of: exponentials that vectorise without SVML, and activations."""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from ._compile import INLINE, scalar
from ._memory import as_float32, as_int32


def like(x, value):
    """`value` in the precision of `x`: a bare 1.0 is float64 and would widen the whole expression."""


@overload(like, jit_options=INLINE)
def _like(x, value):
    if x == types.float32:
        return lambda x, value: np.float32(value)
    return lambda x, value: float(value)


def narrow(x, input):
    """x in the precision of `input`."""


@overload(narrow, jit_options=INLINE)
def _narrow(x, input):
    if input == types.float32:
        return lambda x, input: np.float32(x)
    return lambda x, input: x


@scalar
def larger(x, y):
    return x if x > y else y


def unless_vanished(gradient):
    """`gradient`, or 0 where its products with numbers of usual size would be subnormal. NaN passes through.

    On their way back through time gradients fade into subnormal numbers, with which processors take many times as long,
    also in each matrix product that those gradients come to afterwards.
    """


@overload(unless_vanished, jit_options=INLINE)
def _unless_vanished(gradient):
    least = 1e-31 if gradient == types.float32 else 1e-292
    return lambda gradient: like(gradient, 0.0) if abs(gradient) < like(gradient, least) else gradient


# --- exponentials -----------------------------------------------------------------------------------------------------


@scalar
def _exp32(x):
    """exp in float32, relative error below 2e-7, clamped to [-87, 88]; NaN passes through.

    x = n ln 2 + r with |r| <= ln(2)/2; adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits, which
    are then added to the
    exponent of the polynomial in r (coefficients of Cephes' expf).
    """
    x = np.float32(-87.0) if x < np.float32(-87.0) else x
    x = np.float32(88.0) if x > np.float32(88.0) else x
    shifted = x * np.float32(1.4426950408889634) + np.float32(12582912.0)
    n = shifted - np.float32(12582912.0)
    r = x - n * np.float32(0.693359375)
    r = r + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * r * r + r + np.float32(1.0)
    power = as_float32(np.int32(as_int32(p) + np.int32(as_int32(shifted) << 23)))
    return power if x == x else x  # the bits of a NaN would be added to as well, and could become a number


def exp(x):
    """e^x in the precision of x."""


@overload(exp, jit_options=INLINE)
def _exp(x):
    if x == types.float32:
        return lambda x: _exp32(x)
    return lambda x: np.exp(x)


@scalar
def sigmoid(x):
    one = like(x, 1.0)
    return one / (one + exp(-x))


@scalar
def tanh(x):
    """tanh; a polynomial (Cephes' tanhf) near 0, where the quotient of exponentials would cancel. Error below 2e-7 in
    float32.
    """
    return _tanh(x)


def _tanh(x):
    pass


@overload(_tanh, jit_options=INLINE)
def _tanh_impl(x):
    if x != types.float32:
        return lambda x: np.tanh(x)

    def tanh32(x):
        s = x * x
        p = np.float32(-5.70498872745e-3)
        p = p * s + np.float32(2.06390887954e-2)
        p = p * s + np.float32(-5.37397155531e-2)
        p = p * s + np.float32(1.33314422036e-1)
        p = p * s + np.float32(-3.33332819422e-1)
        near = x + x * s * p
        e = _exp32(np.float32(-2.0) * abs(x))
        far = (np.float32(1.0) - e) / (np.float32(1.0) + e)
        far = -far if x < np.float32(0.0) else far
        return near if s < np.float32(0.390625) else far

    return tanh32


def softplus(x):
    """log(1 + e^x), relative error below 2e-7 in float32."""


@overload(softplus, jit_options=INLINE)
def _softplus(x):
    if x != types.float32:
        return lambda x: max(x, 0.0) + np.log1p(np.exp(-abs(x)))

    def softplus32(x):
        small = _exp32(-abs(x))
        s = small / (np.float32(2.0) + small)  # log(1 + small) = 2 artanh(s), and s is at most 1/3
        q = s * s
        p = np.float32(1 / 13)
        p = p * q + np.float32(1 / 11)
        p = p * q + np.float32(1 / 9)
        p = p * q + np.float32(1 / 7)
        p = p * q + np.float32(1 / 5)
        p = p * q + np.float32(1 / 3)
        above = x if x > np.float32(0.0) else np.float32(0.0)
        return above + np.float32(2.0) * (s + s * q * p)

    return softplus32


# --- candidate activations and their derivatives ----------------------------------------------------------------------


@scalar
def identity(x):
    return x


@scalar
def identity_slope(x):
    return like(x, 1.0)


@scalar
def positive(x):
    return x + like(x, 0.5) if x >= like(x, 0.0) else sigmoid(x)


@scalar
def positive_slope(x):
    s = sigmoid(x)
    return like(x, 1.0) if x >= like(x, 0.0) else s * (like(x, 1.0) - s)


@scalar
def tanh_slope(x):
    y = tanh(x)
    return like(x, 1.0) - y * y


@scalar
def silu(x):
    return x * sigmoid(x)


@scalar
def silu_slope(x):
    s = sigmoid(x)
    return s + x * s * (like(x, 1.0) - s)


@scalar
def sigmoid_slope(x):
    s = sigmoid(x)
    return s * (like(x, 1.0) - s)


@scalar
def _gelu_gate(x):
    """gelu(x) = x sigmoid(2 sqrt(2/pi) (x + 0.044715 x^3)), the tanh form; returns the sigmoid."""
    return sigmoid(x * (like(x, 1.5957691216057308) + like(x, 0.07135481627260025) * x * x))


@scalar
def gelu(x):
    return x * _gelu_gate(x)


@scalar
def gelu_slope(x):
    s = _gelu_gate(x)
    rise = like(x, 1.5957691216057308) + like(x, 3.0) * like(x, 0.07135481627260025) * x * x
    return s + x * s * (like(x, 1.0) - s) * rise
