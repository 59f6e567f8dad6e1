"""The walk: one pass over time for any channelwise recurrence, channels in SIMD lanes, blocks of (row of B, channels)
over threads.

Arrays come flat. Row (b, t) of an array starts at `offset + b * batch_stride + t * time_stride`, so that time-major,
reversed and
batch-major layouts are walked where they lie; its K inputs of H channels stand one after the other.
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


STEPS: dict[str, tuple[Any, Any, Any, Any]] = {
    "linear": (_steps.linear, _steps.linear_back, read2, write2),
    "mingru": (_steps.mingru, _steps.mingru_back, read2, write2),
    "minlstm": (_steps.minlstm, _steps.minlstm_back, read3, write3),
    "minlstm_unnormalized": (_steps.minlstm_unnormalized, _steps.minlstm_unnormalized_back, read3, write3),
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


@cache
def forward(step_name: str, activation: str) -> Callable[..., None]:
    """Kernel that writes h and leaves the last state in `state` (B, H), which holds h_0 on entry."""
    step, _, read_inputs, _ = STEPS[step_name]
    activate, _ = ACTIVATIONS[activation]
    version = SOURCES

    def walk_forward(x, x_at, h, h_at, reset, reset_at, state, T, H, block, first, last):
        version  # noqa: B018 - part of the cache key
        blocks = (H + block - 1) // block
        for unit in range(first, last):
            b = unit // blocks
            start = (unit - b * blocks) * block
            stop = min(start + block, H)
            for t in range(T):
                if reset.size > 0 and reset[reset_at[0] + b * reset_at[1] + t * reset_at[2]]:
                    for c in range(start, stop):
                        write_state(state, b * H + c, 0)
                x_row = x_at[0] + b * x_at[1] + t * x_at[2]
                h_row = h_at[0] + b * h_at[1] + t * h_at[2]
                for c in range(start, stop):
                    inputs = read_inputs(x, x_row + c, H)
                    now = step(read_state(state, b * H + c), inputs[:-1] + (activate(inputs[-1]),))
                    write_state(state, b * H + c, now)
                    write_out0(h, h_row + c, now)

    return kernel(walk_forward, step_name, activation)


@cache
def backward(step_name: str, activation: str) -> Callable[..., None]:
    """Kernel that writes dx and leaves dh_0 in `grad` (B, H), which holds the gradient of the last state on entry.

    `before` (B, H) is h_0 on entry and then holds the state before each step in turn, read back from h.
    """
    _, step_back, read_inputs, write_inputs = STEPS[step_name]
    activate, slope = ACTIVATIONS[activation]
    version = SOURCES

    def walk_backward(x, x_at, h, h_at, dh, dh_at, dx, dx_at, reset, reset_at, before, grad, T, H, block, first, last):
        version  # noqa: B018 - part of the cache key
        blocks = (H + block - 1) // block
        for unit in range(first, last):
            b = unit // blocks
            start = (unit - b * blocks) * block
            stop = min(start + block, H)
            initial = before[b * H + start : b * H + stop].copy()
            for t in range(T - 1, -1, -1):
                x_row = x_at[0] + b * x_at[1] + t * x_at[2]
                dh_row = dh_at[0] + b * dh_at[1] + t * dh_at[2]
                dx_row = dx_at[0] + b * dx_at[1] + t * dx_at[2]
                h_row = h_at[0] + b * h_at[1] + (t - 1) * h_at[2]
                is_reset = reset.size > 0 and reset[reset_at[0] + b * reset_at[1] + t * reset_at[2]]
                for c in range(start, stop):
                    if is_reset:
                        write_before(before, b * H + c, 0)
                    elif t == 0:
                        write_before(before, b * H + c, read_in(initial, c - start))
                    else:
                        write_before(before, b * H + c, read_in(h, h_row + c))
                for c in range(start, stop):
                    inputs = read_inputs(x, x_row + c, H)
                    upstream = read_state(grad, b * H + c) + read_in(dh, dh_row + c)
                    dbefore, dinputs = step_back(
                        read_before(before, b * H + c), inputs[:-1] + (activate(inputs[-1]),), upstream
                    )
                    write_state(grad, b * H + c, like(dbefore, 0.0) if is_reset else dbefore)
                    write_inputs(dx, dx_row + c, H, dinputs[:-1] + (dinputs[-1] * slope(inputs[-1]),))

    return kernel(walk_backward, step_name, activation)
