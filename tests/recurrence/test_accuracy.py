"""Errors after 65,536 steps against a float64 loop over the same inputs, relative to the largest state of a channel."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from minrnn.recurrence import mingru, minlstm

T, H = 65_536, 8  # H channels of each regime
BOUND = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
UPDATE = {"forgetting": 4.0, "even": 0.0, "remembering": -4.0, "remembering longer": -8.0}  # logits of the update gate
REGIMES = list(product(UPDATE, ["constant", "random"], ["constant", "random", "shifted"]))  # gates and candidates


@cache
def inputs() -> tuple[Tensor, Tensor]:
    """Update gate and candidate of every regime side by side, (1, T, len(REGIMES) * H)."""
    torch.manual_seed(0)
    candidates = {
        "constant": torch.linspace(0.3, 1.7, H).expand(T, H),
        "random": torch.randn(T, H),
        "shifted": torch.randn(T, H) + 3,
    }
    gates = [UPDATE[level] + torch.randn(T, H) * (noise == "random") for level, noise, _ in REGIMES]
    return torch.cat(gates, dim=-1)[None], torch.cat([candidates[c] for *_, c in REGIMES], dim=-1)[None]


def loop(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """h_t = a_t h_{t-1} + b_t in float64."""
    h, states = np.zeros(b.shape[-1]), np.empty_like(b)
    for t in range(len(b)):
        h = a[t] * h + b[t]
        states[t] = h
    return states


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@cache
def expected(dtype: torch.dtype) -> np.ndarray:
    """The states (T, channels): h_t = (1 - z_t) h_{t-1} + z_t c_t with z = sigmoid(gate)."""
    gate, candidate = (x[0].to(dtype).double().numpy() for x in inputs())
    return loop(sigmoid(-gate), sigmoid(gate) * candidate)


# The same weights three times: sigmoid(-gate) + sigmoid(gate) = 1, so normalising them changes nothing.
OPS = {
    "mingru": lambda gate, candidate: mingru(gate, candidate),
    "minlstm": lambda gate, candidate: minlstm(-gate, gate, candidate),
    "minlstm, not normalised": lambda gate, candidate: minlstm(-gate, gate, candidate, normalize=False),
}


@pytest.mark.parametrize("dtype", BOUND, ids=str)
@pytest.mark.parametrize("op", OPS)
def test_error_against_a_float64_loop(op: str, dtype: torch.dtype) -> None:
    states = expected(dtype)
    h, h_last = (y[0].double().numpy() for y in OPS[op](*(x.to(dtype) for x in inputs())))
    largest = np.abs(states).max(axis=0)
    # The last state is float32 whatever the inputs are.
    for given, wanted, bound in ((h, states, BOUND[dtype]), (h_last, states[-1], BOUND[torch.float32])):
        errors = (np.abs(given - wanted) / largest).reshape(-1, len(REGIMES), H).max(axis=(0, 2))
        missed = {
            " ".join(regime): f"{error:.1e}"
            for regime, error in zip(REGIMES, errors, strict=True)
            if not error <= bound
        }
        assert not missed
