"""Each recurrence as one scalar step and its derivative. `x` holds the step's inputs; the last one is the activated
candidate.

`step(h, x) -> h` and `step_back(h, x, dh) -> dh_before, dx`: everything else (time, threads, layout, precision,
resets) is the walk's.
The same equations in plain torch, which these must agree with, are in `minrnn.recurrence._definitions`.
"""

from __future__ import annotations

from ._compile import scalar
from ._scalar import exp, like, sigmoid


@scalar
def linear(h, x):
    """h_t = a_t h_{t-1} + b_t"""
    a, b = x
    return a * h + b


@scalar
def linear_back(h, x, dh):
    a, _ = x
    return dh * a, (dh * h, dh)


@scalar
def mingru(h, x):
    """h_t = (1 - z_t) h_{t-1} + z_t c_t, written so that a rounded z leaves the weights' sum at exactly 1."""
    gate, candidate = x
    return h + sigmoid(gate) * (candidate - h)


@scalar
def mingru_back(h, x, dh):
    gate, candidate = x
    z = sigmoid(gate)
    keep = like(z, 1.0) - z
    return dh * keep, (dh * (candidate - h) * z * keep, dh * z)


@scalar
def _gate_terms(forget, input):
    """1, e^-forget and e^-input, all divided by the largest of the three: no logit overflows them."""
    one = like(forget, 1.0)
    zero = like(forget, 0.0)
    forget_larger = -forget >= -input
    large = -forget if forget_larger else -input
    small = -input if forget_larger else -forget
    scale = exp(-abs(large))
    of_one = scale if large >= zero else one
    of_large = one if large >= zero else scale
    of_small = exp(small - (large if large >= zero else zero))
    return of_one, (of_large if forget_larger else of_small), (of_small if forget_larger else of_large)


@scalar
def minlstm(h, x):
    """h_t = f' h_{t-1} + i' c_t with f' = f / (f + i), i' = i / (f + i)"""
    forget, input, candidate = x
    one, ef, ei = _gate_terms(forget, input)
    i = (one + ef) / ((one + ef) + (one + ei))
    return h + i * (candidate - h)


@scalar
def minlstm_back(h, x, dh):
    forget, input, candidate = x
    one, ef, ei = _gate_terms(forget, input)
    total = (one + ef) + (one + ei)
    f = (one + ei) / total
    i = (one + ef) / total
    df = dh * (h - candidate) * f * i
    return dh * f, (df * sigmoid(-forget), -df * sigmoid(-input), dh * i)


@scalar
def minlstm_unnormalized(h, x):
    """h_t = f h_{t-1} + i c_t, with 1 - f exact where f is nearly 1."""
    forget, input, candidate = x
    return h - sigmoid(-forget) * h + sigmoid(input) * candidate


@scalar
def minlstm_unnormalized_back(h, x, dh):
    forget, input, candidate = x
    f = sigmoid(forget)
    i = sigmoid(input)
    one = like(f, 1.0)
    return dh * f, (dh * h * f * (one - f), dh * candidate * i * (one - i), dh * i)
