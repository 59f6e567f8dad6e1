"""The walk: one pass over time for any channelwise recurrence, channels in SIMD lanes, blocks of (row of B, channels)
over threads.

Arrays come flat. Row (b, t) of an array starts at `b * batch_stride + place * time_stride`. The place of step t is t,
or `starts[t]` in packed sequences, whose two strides are one: batch-major, time-major and packed layouts are walked
where they lie. The K inputs of a row, H channels each, stand one after the other. Sequence b has `lengths[b]` steps, or
T where `lengths` is empty; in padded layouts the rows after them are set to zero. `reverse` walks each sequence from
its end.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from . import _scalar, _steps
from ._compile import SOURCES, kernel, scalar
from ._memory import read_before, read_in, read_state, write_before, write_out0, write_out1, write_out2, write_state
from ._scalar import like

BLOCK = 16  # channels in the smallest block: one vector of float32 with AVX-512


@scalar
def read2(x, i, H):
    return read_in(x, i), read_in(x, i + H)


@scalar
def read3(x, i, H):
    return read_in(x, i), read_in(x, i + H), read_in(x, i + 2 * H)


@scalar
def write2(x, i, H, values):
    write_out0(x, i, values[0])
    write_out1(x, i + H, values[1])


@scalar
def write3(x, i, H, values):
    write_out0(x, i, values[0])
    write_out1(x, i + H, values[1])
    write_out2(x, i + 2 * H, values[2])


@scalar
def clear2(x, i, H):
    write_out0(x, i, 0)
    write_out1(x, i + H, 0)


@scalar
def clear3(x, i, H):
    write_out0(x, i, 0)
    write_out1(x, i + H, 0)
    write_out2(x, i + 2 * H, 0)


TWO, THREE = (read2, write2, clear2), (read3, write3, clear3)

STEPS: dict[str, tuple[Any, Any, tuple[Any, Any, Any]]] = {
    "linear": (_steps.linear, _steps.linear_back, TWO),
    "mingru": (_steps.mingru, _steps.mingru_back, TWO),
    "minlstm": (_steps.minlstm, _steps.minlstm_back, THREE),
    "minlstm_unnormalized": (_steps.minlstm_unnormalized, _steps.minlstm_unnormalized_back, THREE),
}

ACTIVATIONS: dict[str, tuple[Any, Any]] = {
    "identity": (_scalar.identity, _scalar.identity_slope),
    "g": (_scalar.positive, _scalar.positive_slope),
    "tanh": (_scalar.tanh, _scalar.tanh_slope),
}


def block_size(B: int, H: int) -> int:
    """Channels in a block: as many as leave 16 blocks to share out, in multiples of 16; by shape alone, so that bits
    are too.
    """
    blocks_per_row = -(-16 // max(B, 1))
    return max(1, -(-H // (blocks_per_row * BLOCK))) * BLOCK


@scalar
def place_of(step, length, starts, reverse):
    """Where the step-th step walked of a sequence lies."""
    t = length - 1 - step if reverse else step
    return starts[t] if starts.size > 0 else t


@cache
def forward(step_name: str, activation: str) -> Callable[..., None]:
    """Kernel that writes h and leaves the last state in `state` (B, H), which holds h_0 on entry."""
    step, _, (read_inputs, _, _) = STEPS[step_name]
    activate, _ = ACTIVATIONS[activation]
    version = SOURCES

    def walk_forward(x, x_at, h, h_at, reset, reset_at, state, lengths, starts, reverse, T, H, block, first, last):
        version  # noqa: B018 - part of the cache key
        blocks = (H + block - 1) // block
        for unit in range(first, last):
            b = unit // blocks
            start = (unit - b * blocks) * block
            stop = min(start + block, H)
            length = lengths[b] if lengths.size > 0 else T
            for s in range(length):
                place = place_of(s, length, starts, reverse)
                if reset.size > 0 and reset[b * reset_at[0] + place * reset_at[1]]:
                    for c in range(start, stop):
                        write_state(state, b * H + c, 0)
                x_row = b * x_at[0] + place * x_at[1]
                h_row = b * h_at[0] + place * h_at[1]
                for c in range(start, stop):
                    inputs = read_inputs(x, x_row + c, H)
                    now = step(read_state(state, b * H + c), inputs[:-1] + (activate(inputs[-1]),))
                    write_state(state, b * H + c, now)
                    write_out0(h, h_row + c, now)
            if starts.size == 0:
                for t in range(length, T):
                    for c in range(start, stop):
                        write_out0(h, b * h_at[0] + t * h_at[1] + c, 0)

    return kernel(walk_forward, step_name, activation)


@cache
def backward(step_name: str, activation: str) -> Callable[..., None]:
    """Kernel that writes dx and leaves dh_0 in `grad` (B, H), which holds the gradient of the last state on entry.

    `before` (B, H) is h_0 on entry and then holds the state before each step in turn, read back from h.
    """
    _, step_back, (read_inputs, write_inputs, clear_inputs) = STEPS[step_name]
    activate, slope = ACTIVATIONS[activation]
    version = SOURCES

    def walk_backward(
        x, x_at, h, h_at, dh, dh_at, dx, dx_at, reset, reset_at, before, grad, lengths, starts, reverse, T, H, block,
        first, last,
    ):  # fmt: skip
        version  # noqa: B018 - part of the cache key
        blocks = (H + block - 1) // block
        for unit in range(first, last):
            b = unit // blocks
            start = (unit - b * blocks) * block
            stop = min(start + block, H)
            length = lengths[b] if lengths.size > 0 else T
            initial = before[b * H + start : b * H + stop].copy()
            for s in range(length - 1, -1, -1):
                place = place_of(s, length, starts, reverse)
                x_row = b * x_at[0] + place * x_at[1]
                dh_row = b * dh_at[0] + place * dh_at[1]
                dx_row = b * dx_at[0] + place * dx_at[1]
                is_reset = reset.size > 0 and reset[b * reset_at[0] + place * reset_at[1]]
                if is_reset:
                    for c in range(start, stop):
                        write_before(before, b * H + c, 0)
                elif s == 0:
                    for c in range(start, stop):
                        write_before(before, b * H + c, read_in(initial, c - start))
                else:
                    h_row = b * h_at[0] + place_of(s - 1, length, starts, reverse) * h_at[1]
                    for c in range(start, stop):
                        write_before(before, b * H + c, read_in(h, h_row + c))
                for c in range(start, stop):
                    inputs = read_inputs(x, x_row + c, H)
                    upstream = read_state(grad, b * H + c) + read_in(dh, dh_row + c)
                    dbefore, dinputs = step_back(
                        read_before(before, b * H + c), inputs[:-1] + (activate(inputs[-1]),), upstream
                    )
                    write_state(grad, b * H + c, like(dbefore, 0.0) if is_reset else dbefore)
                    write_inputs(dx, dx_row + c, H, dinputs[:-1] + (dinputs[-1] * slope(inputs[-1]),))
            if starts.size == 0:
                for t in range(length, T):
                    for c in range(start, stop):
                        clear_inputs(dx, b * dx_at[0] + t * dx_at[1] + c, H)

    return kernel(walk_backward, step_name, activation)
