"""The fused CUDA kernels behind tensors, in Triton: layouts in, layouts out, no copy where the last stride is 1.

A program walks time for one row of B and a block of channels, one channel to a thread, with the state in registers.
Gate, candidate activation and recurrence happen in that one pass. The equations are those of `minrnn.kernels._steps`,
switched at compile time.
"""
# mypy: disable-error-code="import-not-found, import-untyped, no-untyped-call, no-untyped-def, untyped-decorator"

import itertools
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._definitions import RECURRENCES
from ._layout import empty_rows, fresh_state, parts, rows

MAX_BLOCK = 128  # channels of a program


# --- scalar functions: a float literal takes the precision of what it meets -------------------------------------------


@triton.jit
def _sigmoid(x):
    """1 / (1 + e^-x), with an exponent that cannot overflow."""
    e = tl.exp(-tl.abs(x))
    return tl.where(x >= 0, 1.0, e) / (1.0 + e)


@triton.jit
def _tanh(x):
    e = tl.exp(-2.0 * tl.abs(x))
    far = (1.0 - e) / (1.0 + e)
    far = tl.where(x < 0, -far, far)
    if x.dtype == tl.float64:
        return far
    # Near 0 the quotient cancels, which float32 would feel: there the polynomial of Cephes' tanhf.
    s = x * x
    p = -5.70498872745e-3
    p = p * s + 2.06390887954e-2
    p = p * s - 5.37397155531e-2
    p = p * s + 1.33314422036e-1
    p = p * s - 3.33332819422e-1
    return tl.where(s < 0.390625, x + x * s * p, far)


@triton.jit
def _activate(x, ACTIVATION: tl.constexpr):
    if ACTIVATION == "tanh":
        return _tanh(x)
    if ACTIVATION == "g":
        return tl.where(x >= 0, x + 0.5, _sigmoid(x))
    return x


@triton.jit
def _slope(x, ACTIVATION: tl.constexpr):
    """The derivative of the activation at x."""
    if ACTIVATION == "tanh":
        y = _tanh(x)
        return 1.0 - y * y
    if ACTIVATION == "g":
        s = _sigmoid(x)
        return tl.where(x >= 0, 1.0, s * (1.0 - s))
    return tl.full(x.shape, 1.0, x.dtype)


@triton.jit
def _normalized(forget, input):
    """f / (f + i) and i / (f + i) of the two sigmoids, where f / i is (1 + e^-input) / (1 + e^-forget).

    All terms are divided by the largest of 1, e^-forget and e^-input, so that no logit overflows them.
    """
    largest = tl.maximum(tl.maximum(-forget, -input), 0.0)
    one = tl.exp(-largest)
    f = one + tl.exp(-input - largest)
    i = one + tl.exp(-forget - largest)
    return f / (f + i), i / (f + i)


# --- one step: `second` is the middle one of three inputs, and means nothing where there are two ----------------------


@triton.jit
def _step(h, first, second, candidate, STEP: tl.constexpr):
    """The next state. The weighted means are written so that rounded weights still add up to exactly 1."""
    if STEP == "linear":
        return first * h + candidate
    elif STEP == "mingru":
        return h + _sigmoid(first) * (candidate - h)
    elif STEP == "minlstm":
        _, i = _normalized(first, second)
        return h + i * (candidate - h)
    else:
        tl.static_assert(STEP == "minlstm_unnormalized")
        return _sigmoid(first) * h + _sigmoid(second) * candidate


@triton.jit
def _step_back(h, first, second, candidate, dh, STEP: tl.constexpr):
    """Gradients of h, first, second and candidate from that of the next state."""
    if STEP == "linear":
        return dh * first, dh * h, dh, dh
    elif STEP == "mingru":
        z = _sigmoid(first)
        return dh * (1.0 - z), dh * (candidate - h) * z * (1.0 - z), dh, dh * z
    elif STEP == "minlstm":
        f, i = _normalized(first, second)
        df = dh * (h - candidate) * f * i
        return dh * f, df * _sigmoid(-first), -df * _sigmoid(-second), dh * i
    else:
        tl.static_assert(STEP == "minlstm_unnormalized")
        f = _sigmoid(first)
        i = _sigmoid(second)
        return dh * f, dh * h * f * (1.0 - f), dh * candidate * i * (1.0 - i), dh * i


# --- the walks: a tensor comes as the row walked to first for b = 0, and the strides to the next b and t --------------


@triton.jit
def _walk_forward(
    x, x_batch, x_time, h, h_batch, h_time, reset, reset_batch, reset_time, state, T, H,
    K: tl.constexpr, STEP: tl.constexpr, ACTIVATION: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Writes h and leaves the last state in `state` (B, H), which holds h_0 on entry; its dtype is that of the walk."""
    b = tl.program_id(0).to(tl.int64)  # offsets pass 2^31 where B*T*K*H does
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = c < H
    x += b * x_batch + c
    h += b * h_batch + c
    state += b * H + c
    if reset is not None:
        reset += b * reset_batch
    now = tl.load(state, mask)
    for _ in range(T):
        if reset is not None:
            now = tl.where(tl.load(reset), 0.0, now)
            reset += reset_time
        first = tl.load(x, mask).to(now.dtype)
        second = tl.load(x + H, mask).to(now.dtype)
        last = tl.load(x + (K - 1) * H, mask).to(now.dtype)
        now = _step(now, first, second, _activate(last, ACTIVATION), STEP)
        tl.store(h, now, mask)
        x += x_time
        h += h_time
    tl.store(state, now, mask)


@triton.jit
def _walk_backward(
    x, x_batch, x_time, h, h_batch, h_time, dh, dh_batch, dh_time, dx, dx_batch, dx_time,
    reset, reset_batch, reset_time, initial, grad, T, H,
    K: tl.constexpr, STEP: tl.constexpr, ACTIVATION: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Writes dx and leaves dh_0 in `grad` (B, H), which holds the gradient of the last state on entry.

    `initial` (B, H) is h_0; all other states are read back from h. The strides point back in time.
    """
    b = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = c < H
    x += b * x_batch + c
    h += b * h_batch + c
    dh += b * dh_batch + c
    dx += b * dx_batch + c
    grad += b * H + c
    if reset is not None:
        reset += b * reset_batch
    h0 = tl.load(initial + b * H + c, mask)
    dnow = tl.load(grad, mask)
    for steps in range(1, T + 1):
        h += h_time
        before = tl.load(h, mask).to(dnow.dtype) if steps < T else h0
        if reset is not None:
            is_reset = tl.load(reset)
            before = tl.where(is_reset, 0.0, before)
        first = tl.load(x, mask).to(dnow.dtype)
        second = tl.load(x + H, mask).to(dnow.dtype)
        last = tl.load(x + (K - 1) * H, mask).to(dnow.dtype)
        dnow += tl.load(dh, mask).to(dnow.dtype)
        dnow, dfirst, dsecond, dlast = _step_back(before, first, second, _activate(last, ACTIVATION), dnow, STEP)
        tl.store(dx, dfirst, mask)
        if K == 3:
            tl.store(dx + H, dsecond, mask)
        tl.store(dx + (K - 1) * H, dlast * _slope(last, ACTIVATION), mask)
        if reset is not None:
            dnow = tl.where(is_reset, 0.0, dnow)
            reset += reset_time
        x += x_time
        dh += dh_time
        dx += dx_time
    tl.store(grad, dnow, mask)


# --- on tensors -------------------------------------------------------------------------------------------------------


def _walked(x: Tensor | None, backwards: bool) -> tuple[Tensor | None, int, int]:
    """x (B, T, ...) from the rows of the first step walked to, and the strides to the next b and to the next step."""
    if x is None:
        return None, 0, 0
    batch, time = x.stride()[:2]
    return (x[:, -1], batch, -time) if backwards else (x[:, 0], batch, time)


def _launch(kernel: Any, name: str, arguments: tuple[Any, ...], state: Tensor, T: int) -> None:
    B, H = state.shape
    step, activation = parts(name)
    block = min(MAX_BLOCK, triton.next_power_of_2(H))
    options = {"K": RECURRENCES[name].inputs, "STEP": step, "ACTIVATION": activation, "BLOCK": block}
    with torch.cuda.device_of(state):
        kernel[B, triton.cdiv(H, block)](*arguments, T, H, **options, num_warps=max(1, block // 32))


def forward(name: str, inputs: Tensor, h0: Tensor | None, reset: Tensor | None, reverse: bool) -> tuple[Tensor, Tensor]:
    """inputs (B, T, K*H), h0 (B, H), reset (B, T) -> h (B, T, H) in the memory order of inputs, h_last (B, H)."""
    inputs = rows(inputs)
    B, T, KH = inputs.shape
    H = KH // RECURRENCES[name].inputs
    h = empty_rows(inputs, H)
    state = fresh_state(h0, B, H, inputs)
    if h.numel():
        arguments = (*_walked(inputs, reverse), *_walked(h, reverse), *_walked(reset, reverse), state)
        _launch(_walk_forward, name, arguments, state, T)
    return h, state


def backward(
    name: str,
    inputs: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    h: Tensor,
    dh: Tensor,
    dh_last: Tensor,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of inputs (B, T, K*H) and of h0 (B, H) from those of both outputs."""
    inputs = rows(inputs)
    B, T, KH = inputs.shape
    H = h.shape[-1]
    dx = empty_rows(inputs, KH)
    grad = fresh_state(dh_last, B, H, inputs)
    if h.numel():
        walked = [_walked(x, not reverse) for x in (inputs, h, rows(dh), dx, reset)]
        initial = fresh_state(h0, B, H, inputs)
        _launch(_walk_backward, name, (*itertools.chain(*walked), initial, grad), grad, T)
    return dx, grad
