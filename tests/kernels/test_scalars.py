"""The scalar functions of kernels against float64, and bfloat16 in and out, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numba import njit

from minrnn.kernels import _scalar
from minrnn.kernels._compile import OPTIONS
from minrnn.recurrence import linear_recurrence


def over_arrays(function: Any) -> Callable[[np.ndarray], np.ndarray]:
    @njit(**OPTIONS)
    def run(x, y):  # type: ignore[no-untyped-def]
        for i in range(x.size):
            y[i] = function(x[i])

    def call(x: np.ndarray) -> np.ndarray:
        y = np.empty_like(x)
        run(x, y)
        return y

    return call


def reference_sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


# function, its definition, the range of arguments, and the bound of the relative error in float32
FUNCTIONS: dict[str, tuple[Any, Callable[[np.ndarray], np.ndarray], tuple[float, float], float]] = {
    "exp": (_scalar.exp, np.exp, (-87, 88), 2e-7),
    "sigmoid": (_scalar.sigmoid, reference_sigmoid, (-87, 100), 3e-7),
    "tanh": (_scalar.tanh, np.tanh, (-20, 20), 2e-7),
    "softplus": (_scalar.softplus, lambda x: np.logaddexp(0, x), (-80, 100), 3e-7),
    "positive": (_scalar.positive, lambda x: np.where(x >= 0, x + 0.5, reference_sigmoid(x)), (-80, 20), 3e-7),
    "positive_slope": (
        _scalar.positive_slope,
        lambda x: np.where(x >= 0, 1, reference_sigmoid(x) * reference_sigmoid(-x)),
        (-80, 20),
        5e-7,
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_relative_error(name: str) -> None:
    function, definition, (low, high), bound = FUNCTIONS[name]
    near_zero = np.geomspace(1e-6, 1, 10_001)
    x = np.concatenate([np.linspace(low, high, 100_001), near_zero, -near_zero])
    for dtype, error in ((np.float32, bound), (np.float64, 1e-14)):
        given = over_arrays(function)(x.astype(dtype))
        wanted = definition(x.astype(dtype).astype(np.float64))
        assert given.dtype == dtype
        assert (np.abs(given - wanted) <= error * np.abs(wanted)).all()


def test_every_bfloat16_is_read_as_it_is() -> None:
    b = torch.arange(2**16).to(torch.int32).to(torch.uint16).view(torch.bfloat16).view(1, 1, -1)
    _, h_last = linear_recurrence(torch.zeros_like(b), b)
    torch.testing.assert_close(h_last, b[:, 0].float(), rtol=0, atol=0, equal_nan=True)


def test_states_are_rounded_to_the_nearest_even_bfloat16() -> None:
    torch.manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (1, 100_000), dtype=torch.int64)
    ties = (torch.arange(2**16) << 16 | 0x8000)[None]
    corners = torch.tensor([[0x7F7FFFFF, 0x7F800000, 0x7FFFFFFF, 0x7F800001, -1, 1, 0x00007FFF, 0x00008001]])
    h0 = torch.cat([bits, ties, ties + 1, ties - 1, corners], dim=1).to(torch.int32).view(torch.float32)
    one = torch.ones(1, 1, h0.shape[1], dtype=torch.bfloat16)
    h, _ = linear_recurrence(one, torch.zeros_like(one), h0)
    torch.testing.assert_close(h[:, 0], h0.bfloat16(), rtol=0, atol=0, equal_nan=True)
