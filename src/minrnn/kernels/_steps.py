"""Each recurrence as one scalar step and its derivative.

`step(s, x, p) -> s, y` and `back(s, x, p, ds, dy) -> ds, dx, dp`. `s` holds the S states before the step, `x` the K
stacked inputs (the last of them activated) and then those that come in arrays of their own, `p` the P parameters of
the channel, `y` the M outputs: none where the states themselves are the output. Everything else (time, threads,
layout, precision, resets) is the walk's. Zero is every state's value before the first step.

The same equations in plain torch, which these must agree with, are in `minrnn.recurrence._definitions`. States may be
wider than inputs: `narrow` brings them to the precision of an input before a function that has no wide vector form.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from . import _scalar
from ._compile import scalar
from ._scalar import exp, larger, like, narrow, sigmoid, silu, silu_slope, tanh


@scalar
def linear(s, x, p):
    """h_t = a_t h_{t-1} + b_t"""
    a, b = x
    return (a * s[0] + b,), ()


@scalar
def linear_back(s, x, p, ds, dy):
    a, _ = x
    dh = ds[0]
    return (dh * a,), (dh * s[0], dh), ()


@scalar
def mingru(s, x, p):
    """h_t = (1 - z_t) h_{t-1} + z_t c_t, written so that a rounded z leaves the weights' sum at exactly 1."""
    h, (gate, candidate) = s[0], x
    return (h + sigmoid(gate) * (candidate - h),), ()


@scalar
def mingru_back(s, x, p, ds, dy):
    h, dh, (gate, candidate) = s[0], ds[0], x
    z = sigmoid(gate)
    keep = like(z, 1.0) - z
    return (dh * keep,), (dh * (candidate - h) * z * keep, dh * z), ()


@scalar
def forget(s, x, p):
    """h_t = f_t h_{t-1} + (1 - f_t) c_t: minGRU with the other sign of the gate."""
    h, (gate, candidate) = s[0], x
    return (h + sigmoid(-gate) * (candidate - h),), ()


@scalar
def forget_back(s, x, p, ds, dy):
    h, dh, (gate, candidate) = s[0], ds[0], x
    z = sigmoid(-gate)
    keep = like(z, 1.0) - z
    return (dh * keep,), (-dh * (candidate - h) * z * keep, dh * z), ()


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
def minlstm(s, x, p):
    """h_t = f' h_{t-1} + i' c_t with f' = f / (f + i), i' = i / (f + i)"""
    h, (forget, input, candidate) = s[0], x
    one, ef, ei = _gate_terms(forget, input)
    i = (one + ef) / ((one + ef) + (one + ei))
    return (h + i * (candidate - h),), ()


@scalar
def minlstm_back(s, x, p, ds, dy):
    h, dh, (forget, input, candidate) = s[0], ds[0], x
    one, ef, ei = _gate_terms(forget, input)
    total = (one + ef) + (one + ei)
    f = (one + ei) / total
    i = (one + ef) / total
    df = dh * (h - candidate) * f * i
    return (dh * f,), (df * sigmoid(-forget), -df * sigmoid(-input), dh * i), ()


@scalar
def minlstm_unnormalized(s, x, p):
    """h_t = f h_{t-1} + i c_t, with 1 - f exact where f is nearly 1."""
    h, (forget, input, candidate) = s[0], x
    return (h - sigmoid(-forget) * h + sigmoid(input) * candidate,), ()


@scalar
def minlstm_unnormalized_back(s, x, p, ds, dy):
    h, dh, (forget, input, candidate) = s[0], ds[0], x
    f = sigmoid(forget)
    i = sigmoid(input)
    one = like(f, 1.0)
    return (dh * f,), (dh * h * f * (one - f), dh * candidate * i * (one - i), dh * i), ()


@scalar
def signed(s, x, p):
    """h_t = tanh(k_t) h_{t-1} + i_t c_t"""
    h, (key, input, candidate) = s[0], x
    return (tanh(key) * h + sigmoid(input) * candidate,), ()


@scalar
def signed_back(s, x, p, ds, dy):
    h, dh, (key, input, candidate) = s[0], ds[0], x
    a = tanh(key)
    i = sigmoid(input)
    one = like(a, 1.0)
    return (dh * a,), (dh * h * (one - a * a), dh * candidate * i * (one - i), dh * i), ()


@scalar
def nonlinear(s, x, p):
    """z = sigmoid(gate + u_z h), c = tanh(candidate + u_c h), h_t = (1 - z) h + z c"""
    (gate, candidate), (u_z, u_c) = x, p
    h = narrow(s[0], gate)
    return (h + sigmoid(gate + u_z * h) * (tanh(candidate + u_c * h) - h),), ()


@scalar
def nonlinear_back(s, x, p, ds, dy):
    h, dh, (gate, candidate), (u_z, u_c) = s[0], ds[0], x, p
    z = sigmoid(gate + u_z * h)
    c = tanh(candidate + u_c * h)
    one = like(z, 1.0)
    dgate = dh * (c - h) * z * (one - z)
    dcandidate = dh * z * (one - c * c)
    dbefore = dh * (one - z) + dgate * u_z + dcandidate * u_c
    return (dbefore,), (dgate, dcandidate), (dgate * h, dcandidate * h)


@scalar
def qrnn_fo(s, x, p):
    """c_t = f_t c_{t-1} + (1 - f_t) z_t, h_t = o_t c_t"""
    before, (forget, output, candidate) = s[0], x
    c = before + sigmoid(-forget) * (candidate - before)
    return (c,), (sigmoid(output) * c,)


@scalar
def qrnn_fo_back(s, x, p, ds, dy):
    before, (forget, output, candidate) = s[0], x
    i = sigmoid(-forget)
    o = sigmoid(output)
    one = like(i, 1.0)
    c = before + i * (candidate - before)
    dc = ds[0] + dy[0] * o
    dforget = -dc * (candidate - before) * i * (one - i)
    return (dc * (one - i),), (dforget, dy[0] * c * o * (one - o), dc * i), ()


@scalar
def qrnn_ifo(s, x, p):
    """c_t = f_t c_{t-1} + i_t z_t, h_t = o_t c_t"""
    before, (forget, input, output, candidate) = s[0], x
    c = before - sigmoid(-forget) * before + sigmoid(input) * candidate
    return (c,), (sigmoid(output) * c,)


@scalar
def qrnn_ifo_back(s, x, p, ds, dy):
    before, (forget, input, output, candidate) = s[0], x
    f = sigmoid(forget)
    i = sigmoid(input)
    o = sigmoid(output)
    one = like(f, 1.0)
    c = f * before + i * candidate
    dc = ds[0] + dy[0] * o
    dx = dc * before * f * (one - f), dc * candidate * i * (one - i), dy[0] * c * o * (one - o), dc * i
    return (dc * f,), dx, ()


@scalar
def _sru_gates(s, x, p):
    """f, r of the state before"""
    c = narrow(s[0], x[0])
    return sigmoid(x[0] + p[0] * c), sigmoid(x[1] + p[1] * c)


@scalar
def sru(s, x, p):
    """f, r = sigmoid(forget + v_f c_{t-1}), sigmoid(reset + v_r c_{t-1}); c_t = f c_{t-1} + (1 - f) x~;
    h_t = r c_t + (1 - r) alpha x
    """
    _, _, candidate, skip = x
    f, r = _sru_gates(s, x, p)
    one = like(f, 1.0)
    c = s[0] + (one - f) * (candidate - s[0])
    skipped = p[2] * skip
    return (c,), (skipped + r * (narrow(c, candidate) - skipped),)


@scalar
def sru_back(s, x, p, ds, dy):
    candidate = x[2]
    f, r = _sru_gates(s, x, p)
    c = s[0] + (like(f, 1.0) - f) * (candidate - s[0])
    return _sru_pull_back(s, x, p, ds, dy, f, r, c, like(f, 1.0))


@scalar
def sru_tanh(s, x, p):
    """`sru` with h_t = r tanh(c_t) + (1 - r) alpha x"""
    _, _, candidate, skip = x
    f, r = _sru_gates(s, x, p)
    one = like(f, 1.0)
    c = s[0] + (one - f) * (candidate - s[0])
    skipped = p[2] * skip
    return (c,), (skipped + r * (tanh(narrow(c, candidate)) - skipped),)


@scalar
def sru_tanh_back(s, x, p, ds, dy):
    candidate = x[2]
    f, r = _sru_gates(s, x, p)
    one = like(f, 1.0)
    g = tanh(s[0] + (one - f) * (candidate - s[0]))
    return _sru_pull_back(s, x, p, ds, dy, f, r, g, one - g * g)


@scalar
def _sru_pull_back(s, x, p, ds, dy, f, r, g, slope):
    """g is what the reset gate lets through, slope its derivative by c_t."""
    _, _, candidate, skip = x
    v_f, v_r, alpha = p
    one = like(f, 1.0)
    passed = dy[0] * (one - r)
    dreset = dy[0] * (g - alpha * skip) * r * (one - r)
    dc = ds[0] + dy[0] * r * slope
    dforget = dc * (s[0] - candidate) * f * (one - f)
    dbefore = dc * f + dforget * v_f + dreset * v_r
    dx = dforget, dreset, dc * (one - f), passed * alpha
    return (dbefore,), dx, (dforget * s[0], dreset * s[0], passed * skip)


@scalar
def rglru(s, x, p):
    """a = exp(-lambda r), h_t = a h_{t-1} + sqrt(1 - a^2) i x; the first step of a sequence has no square root, and
    the second state tells it apart.
    """
    (h, seen), (reset, input, value) = s, x
    a = exp(-p[0] * sigmoid(reset))
    one = like(a, 1.0)
    scale = np.sqrt((one - a) * (one + a)) if seen > like(seen, 0.0) else one
    return (a * h + scale * sigmoid(input) * value, one), (a * h + scale * sigmoid(input) * value,)


@scalar
def rglru_back(s, x, p, ds, dy):
    (h, seen), (reset, input, value) = s, x
    r = sigmoid(reset)
    i = sigmoid(input)
    a = exp(-p[0] * r)
    one = like(a, 1.0)
    zero = like(a, 0.0)
    root = np.sqrt((one - a) * (one + a))
    scale = root if seen > like(seen, 0.0) else one
    dh = ds[0] + dy[0]
    # The slope of the root has no bound; as in the authors' code, it is cut off at 1000 by the square.
    dscale = dh * i * value if seen > like(seen, 0.0) else zero
    steepest = like(a, 5e-4)
    da = dh * h - dscale * a / (root if root > steepest else steepest)
    dlog = da * a
    dr = -p[0] * dlog
    dx = dr * r * (one - r), dh * scale * value * i * (one - i), dh * scale * i
    return (dh * a, zero), dx, (-dlog * r,)


@scalar
def hgrn(s, x, p):
    """f = gamma + (1 - gamma) sigmoid(forget), h_t = f h_{t-1} + (1 - f) c_t"""
    h, (forget, candidate) = s[0], x
    one = like(forget, 1.0)
    return (h + (one - p[0]) * sigmoid(-forget) * (candidate - h),), ()


@scalar
def hgrn_back(s, x, p, ds, dy):
    h, dh, (forget, candidate) = s[0], ds[0], x
    rest = sigmoid(-forget)  # 1 - f = (1 - gamma) rest
    one = like(rest, 1.0)
    open = (one - p[0]) * rest
    df = dh * (h - candidate)
    dforget = df * (one - p[0]) * rest * (one - rest)
    return (dh * (one - open),), (dforget, dh * open), (df * rest,)


@scalar
def hgrn_complex(s, x, p):
    """`hgrn` on a complex state that turns by theta at each step; p = (gamma, cos theta, sin theta)"""
    (re, im), (forget, c_re, c_im) = s, x
    _, cos, sin = p
    one = like(forget, 1.0)
    open = (one - p[0]) * sigmoid(-forget)
    turned_re, turned_im = cos * re - sin * im, sin * re + cos * im
    return (turned_re + open * (silu(c_re) - turned_re), turned_im + open * (silu(c_im) - turned_im)), ()


@scalar
def hgrn_complex_back(s, x, p, ds, dy):
    (re, im), (forget, c_re, c_im) = s, x
    gamma, cos, sin = p
    rest = sigmoid(-forget)
    one = like(rest, 1.0)
    open = (one - gamma) * rest
    turned_re, turned_im = cos * re - sin * im, sin * re + cos * im
    df = ds[0] * (turned_re - silu(c_re)) + ds[1] * (turned_im - silu(c_im))
    d_re, d_im = ds[0] * (one - open), ds[1] * (one - open)
    dforget = df * (one - gamma) * rest * (one - rest)
    dx = dforget, ds[0] * open * silu_slope(c_re), ds[1] * open * silu_slope(c_im)
    dp = df * rest, d_re * re + d_im * im, d_im * re - d_re * im
    return (cos * d_re + sin * d_im, cos * d_im - sin * d_re), dx, dp


@scalar
def _wkv(s, x, p):
    """The factors of state and input in the weighted mean, its numerator and denominator; see `rwkv4`."""
    _, key, value = x
    _, bonus = p
    largest = narrow(s[2], key) if s[1] > like(s[1], 0.0) else like(key, -1e38)
    top = larger(largest, bonus + key)
    of_state, of_input = exp(largest - top), exp(bonus + key - top)
    return of_state, of_input, of_state * s[0] + of_input * value, of_state * s[1] + of_input


@scalar
def rwkv4(s, x, p):
    """y = sigmoid(r) wkv, the mean of all values so far under weights e^(k_i - (t - 1 - i) w), and e^(u + k_t) for
    the newest. Sums a of values and b of weights are kept as multiples of e^m, where m is the largest exponent.
    """
    receptance, key, value = x
    decay, _ = p
    _, _, numerator, denominator = _wkv(s, x, p)
    y = sigmoid(receptance) * (numerator / denominator)
    largest = narrow(s[2], key) if s[1] > like(s[1], 0.0) else like(key, -1e38)
    top = larger(largest - decay, key)
    of_state, of_input = exp(largest - decay - top), exp(key - top)
    return (of_state * s[0] + of_input * value, of_state * s[1] + of_input, top), (y,)


@scalar
def rwkv4_back(s, x, p, ds, dy):
    receptance, key, value = x
    decay = p[0]
    a, b, _ = s
    da, db, dm = ds
    of_state, of_input, numerator, denominator = _wkv(s, x, p)
    r = sigmoid(receptance)
    one = like(r, 1.0)
    zero = like(r, 0.0)
    wkv = numerator / denominator
    dnumerator = dy[0] * r / denominator
    ddenominator = -dnumerator * wkv
    dbonus = (dnumerator * value + ddenominator) * of_input
    dlargest = (dnumerator * a + ddenominator * b) * of_state
    largest = s[2] if b > zero else like(key, -1e38)
    top = larger(largest - decay, key)
    kept, added = exp(largest - decay - top), exp(key - top)
    dtop = dm - (da * (kept * a + added * value) + db * (kept * b + added))
    from_state = largest - decay > key
    ddecayed = (da * a + db * b) * kept + (dtop if from_state else zero)
    dkey = dbonus + (da * value + db) * added + (zero if from_state else dtop)
    dx = dy[0] * wkv * r * (one - r), dkey, dnumerator * of_input + da * added
    dbefore = dnumerator * of_state + da * kept, ddenominator * of_state + db * kept
    return dbefore + (dlargest + ddecayed if b > zero else zero,), dx, (-ddecayed, dbonus)


class Step(NamedTuple):
    """What the walk needs to know of a recurrence."""

    step: Any
    back: Any
    inputs: int  # K, stacked in one array
    states: int = 1  # S
    outputs: int = 0  # M; 0: the states are the output
    parameters: int = 0  # P, of each channel
    extras: int = 0  # inputs in an array of their own, 0 or 1


STEPS: dict[str, Step] = {
    "linear": Step(linear, linear_back, 2),
    "mingru": Step(mingru, mingru_back, 2),
    "forget": Step(forget, forget_back, 2),
    "minlstm": Step(minlstm, minlstm_back, 3),
    "minlstm_unnormalized": Step(minlstm_unnormalized, minlstm_unnormalized_back, 3),
    "signed": Step(signed, signed_back, 3),
    "nonlinear": Step(nonlinear, nonlinear_back, 2, parameters=2),
    "qrnn_fo": Step(qrnn_fo, qrnn_fo_back, 3, outputs=1),
    "qrnn_ifo": Step(qrnn_ifo, qrnn_ifo_back, 4, outputs=1),
    "sru": Step(sru, sru_back, 3, outputs=1, parameters=3, extras=1),
    "sru_tanh": Step(sru_tanh, sru_tanh_back, 3, outputs=1, parameters=3, extras=1),
    "rglru": Step(rglru, rglru_back, 2, states=2, outputs=1, parameters=1, extras=1),
    "hgrn": Step(hgrn, hgrn_back, 2, parameters=1),
    "hgrn_complex": Step(hgrn_complex, hgrn_complex_back, 3, states=2, parameters=3),
    "rwkv4": Step(rwkv4, rwkv4_back, 3, states=3, outputs=1, parameters=2),
}

ACTIVATIONS: dict[str, tuple[Any, Any]] = {
    "identity": (_scalar.identity, _scalar.identity_slope),
    "g": (_scalar.positive, _scalar.positive_slope),
    "tanh": (_scalar.tanh, _scalar.tanh_slope),
    "silu": (_scalar.silu, _scalar.silu_slope),
}
"""Of the last stacked input, and their slopes."""
