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
from ._layout import Spans, empty_rows, fresh_state, parts, rows, size, strides

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


# --- the walks: layouts, lengths and starts are those of `minrnn.kernels.walk` ----------------------------------------


@triton.jit
def _wide(t):
    """A step as an int64: offsets pass 2^31 where B*T*K*H does."""
    return tl.full((), 0, tl.int64) + t


@triton.jit
def _place_of(step, length, starts, REVERSE: tl.constexpr):
    """Where the step-th step walked of a sequence lies."""
    t = length - 1 - step if REVERSE else step
    return tl.load(starts + t) if starts is not None else _wide(t)


@triton.jit
def _walk_forward(
    x, x_batch, x_time, h, h_batch, h_time, reset, reset_batch, reset_time, state, lengths, starts, T, H,
    K: tl.constexpr, STEP: tl.constexpr, ACTIVATION: tl.constexpr, REVERSE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Writes h and leaves the last state in `state` (B, H), which holds h_0 on entry; its dtype is that of the walk."""
    b = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = c < H
    x += b * x_batch + c
    h += b * h_batch + c
    state += b * H + c
    if reset is not None:
        reset += b * reset_batch
    length = tl.load(lengths + b) if lengths is not None else T
    now = tl.load(state, mask)
    for s in range(length):
        place = _place_of(s, length, starts, REVERSE)
        if reset is not None:
            now = tl.where(tl.load(reset + place * reset_time), 0.0, now)
        row = x + place * x_time
        first = tl.load(row, mask).to(now.dtype)
        second = tl.load(row + H, mask).to(now.dtype)
        last = tl.load(row + (K - 1) * H, mask).to(now.dtype)
        now = _step(now, first, second, _activate(last, ACTIVATION), STEP)
        tl.store(h + place * h_time, now, mask)
    if starts is None:
        for t in range(length, T):
            tl.store(h + _wide(t) * h_time, 0.0, mask)
    tl.store(state, now, mask)


@triton.jit
def _walk_backward(
    x, x_batch, x_time, h, h_batch, h_time, dh, dh_batch, dh_time, dx, dx_batch, dx_time,
    reset, reset_batch, reset_time, initial, grad, lengths, starts, T, H,
    K: tl.constexpr, STEP: tl.constexpr, ACTIVATION: tl.constexpr, REVERSE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Writes dx and leaves dh_0 in `grad` (B, H), which holds the gradient of the last state on entry.

    `initial` (B, H) is h_0; all other states are read back from h.
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
    length = tl.load(lengths + b) if lengths is not None else T
    h0 = tl.load(initial + b * H + c, mask)
    dnow = tl.load(grad, mask)
    for walked in range(length):
        s = length - 1 - walked
        place = _place_of(s, length, starts, REVERSE)
        before = h0
        if s > 0:
            before = tl.load(h + _place_of(s - 1, length, starts, REVERSE) * h_time, mask).to(dnow.dtype)
        if reset is not None:
            is_reset = tl.load(reset + place * reset_time)
            before = tl.where(is_reset, 0.0, before)
        row = x + place * x_time
        first = tl.load(row, mask).to(dnow.dtype)
        second = tl.load(row + H, mask).to(dnow.dtype)
        last = tl.load(row + (K - 1) * H, mask).to(dnow.dtype)
        dnow += tl.load(dh + place * dh_time, mask).to(dnow.dtype)
        dnow, dfirst, dsecond, dlast = _step_back(before, first, second, _activate(last, ACTIVATION), dnow, STEP)
        drow = dx + place * dx_time
        tl.store(drow, dfirst, mask)
        if K == 3:
            tl.store(drow + H, dsecond, mask)
        tl.store(drow + (K - 1) * H, dlast * _slope(last, ACTIVATION), mask)
        if reset is not None:
            dnow = tl.where(is_reset, 0.0, dnow)
    if starts is None:
        for t in range(length, T):
            for k in tl.static_range(K):
                tl.store(dx + _wide(t) * dx_time + k * H, 0.0, mask)
    tl.store(grad, dnow, mask)


# --- on tensors -------------------------------------------------------------------------------------------------------


def _rows_of(x: Tensor | None, spans: Spans) -> tuple[Tensor | None, int, int]:
    return (None, 0, 0) if x is None else (x, *strides(x, spans))


def has(name: str) -> bool:
    """Whether there is a kernel for this recurrence; others run as plain torch."""
    return parts(name)[0] in ("linear", "mingru", "minlstm", "minlstm_unnormalized")


def _launch(
    kernel: Any, name: str, tensors: tuple[Tensor | None, ...], states: tuple[Tensor, ...], spans: Spans, reverse: bool
) -> None:
    """`tensors` have rows, inputs first; `states` are (B, H)."""
    inputs, B, H = tensors[0], *states[0].shape
    assert inputs is not None
    step, activation = parts(name)
    block = min(MAX_BLOCK, triton.next_power_of_2(H))
    options = {"K": RECURRENCES[name].inputs, "STEP": step, "ACTIVATION": activation, "REVERSE": reverse}
    placed = itertools.chain(*(_rows_of(x, spans) for x in tensors))
    on_device = [None if x is None else x.to(inputs.device) for x in spans]
    with torch.cuda.device_of(inputs):
        kernel[B, triton.cdiv(H, block)](
            *placed,
            *states,
            *on_device,
            size(inputs, spans)[1],
            H,
            **options,
            BLOCK=block,
            num_warps=max(1, block // 32),
        )


def forward(
    name: str,
    inputs: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    spans: Spans,
    reverse: bool,
    h: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """As `minrnn.recurrence._cpu.forward`."""
    inputs = rows(inputs)
    H = inputs.shape[-1] // RECURRENCES[name].inputs
    h = empty_rows(inputs, H) if h is None else h
    state = fresh_state(h0, size(inputs, spans)[0], H, inputs)
    if h.numel():
        _launch(_walk_forward, name, (inputs, h, reset), (state,), spans, reverse)
    return h, state


def backward(
    name: str,
    inputs: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    spans: Spans,
    h: Tensor,
    dh: Tensor,
    dh_last: Tensor,
    reverse: bool,
    dx: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """As `minrnn.recurrence._cpu.backward`."""
    inputs = rows(inputs)
    B, H = size(inputs, spans)[0], h.shape[-1]
    dx = empty_rows(inputs, inputs.shape[-1]) if dx is None else dx
    grad = fresh_state(dh_last, B, H, inputs)
    if h.numel():
        states = (fresh_state(h0, B, H, inputs), grad)
        _launch(_walk_backward, name, (inputs, h, rows(dh), dx, reset), states, spans, reverse)
    return dx, grad
