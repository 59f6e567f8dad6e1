"""The walk: one pass over time for any channelwise recurrence, channels in SIMD lanes, blocks of (row of B, channels)
over threads.

Arrays come flat. Row (b, t) of an array starts at `b * batch_stride + place * time_stride`. The place of step t is t,
or `starts[t]` in packed sequences, whose two strides are one: batch-major, time-major and packed layouts are walked
where they lie. The vectors of a row, H channels each, stand one after the other: K inputs in `x`, outputs in `y`, S
states in `saved`. Sequence b has `lengths[b]` steps, or T where `lengths` is empty; in padded layouts the rows after
them are set to zero. `reverse` walks each sequence from its end.

States that are the output are read back from it; others are kept beside it, in `saved`, if there will be a way back.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from ._compile import SOURCES, kernel, scalar
from ._rows_of_channels import (
    ADD_PARTIAL,
    EXTRA,
    PUT,
    PUT_BEFORE,
    PUT_LAST,
    PUT_SAVED,
    PUT_STATE,
    READ,
    READ_BEFORE,
    READ_STATE,
    STACKED,
    SUM,
    UNLESS_VANISHED,
    ZEROS,
)  # fmt: skip
from ._steps import ACTIVATIONS as ACTIVATIONS
from ._steps import STEPS as STEPS

BLOCK = 16  # channels in the smallest block: one vector of float32 with AVX-512


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


@scalar
def _the_states(states, outputs):
    return states


@scalar
def _the_output(states, outputs):
    return outputs


@cache
def forward(step_name: str, activation: str, keep: bool = False) -> Callable[..., None]:
    """Kernel that writes y, with `keep` all states to `saved`, and leaves the last states in `state` (B, S*H), which
    holds those before the first step on entry.
    """
    step, _, K, S, M, P, E = STEPS[step_name]
    activate, _ = ACTIVATIONS[activation]
    inputs_of, extras_of, parameters_of = READ[K], READ[E], READ[P]
    read_state, put_state, put_saved = READ_STATE[S], PUT_STATE[S], PUT_SAVED[S] if keep else PUT[0]
    choose = _the_output if M else _the_states
    put, zeros, zero_states = PUT[M or S], ZEROS[M or S], ZEROS[S]
    version = SOURCES

    def walk_forward(
        x, x_at, extra, extra_at, parameters, y, y_at, saved, saved_at, reset, reset_at, state,
        lengths, starts, reverse, T, H, block, first, last,
    ):  # fmt: skip
        version  # noqa: B018 - part of the cache key
        blocks = (H + block - 1) // block
        for unit in range(first, last):
            b = unit // blocks
            start = (unit - b * blocks) * block
            stop = min(start + block, H)
            length = lengths[b] if lengths.size > 0 else T
            s_row = b * S * H
            for s in range(length):
                place = place_of(s, length, starts, reverse)
                if reset.size > 0 and reset[b * reset_at[0] + place * reset_at[1]]:
                    for c in range(start, stop):
                        put_state(state, s_row + c, H, zero_states)
                x_row = b * x_at[0] + place * x_at[1]
                e_row = b * extra_at[0] + place * extra_at[1]
                y_row = b * y_at[0] + place * y_at[1]
                saved_row = b * saved_at[0] + place * saved_at[1]
                for c in range(start, stop):
                    inputs = inputs_of(x, x_row + c, H)
                    inputs = inputs[:-1] + (activate(inputs[-1]),) + extras_of(extra, e_row + c, H)
                    now, out = step(read_state(state, s_row + c, H), inputs, parameters_of(parameters, c, H))
                    put_state(state, s_row + c, H, now)
                    put_saved(saved, saved_row + c, H, now)
                    put(y, y_row + c, H, choose(now, out))
            if starts.size == 0:
                for t in range(length, T):
                    for c in range(start, stop):
                        put(y, b * y_at[0] + t * y_at[1] + c, H, zeros)

    return kernel(walk_forward, step_name, activation, "keep" if keep else "")


@cache
def backward(step_name: str, activation: str) -> Callable[..., None]:
    """Kernel that writes dx and dextra, adds to `partial` (B, P*H), the gradients of the parameters, and leaves those
    of the first states in `grad` (B, S*H), which holds the gradients of the last states on entry.

    `before` (B, S*H) holds the first states on entry, and then the states before each step in turn, read back.
    """
    _, back, K, S, M, P, E = STEPS[step_name]
    activate, slope = ACTIVATIONS[activation]
    inputs_of, extras_of, parameters_of, upstream_of = READ[K], READ[E], READ[P], READ[M or S]
    states_of, read_state, put_state, read_before, put_before = (
        READ[S],
        READ_STATE[S],
        PUT_STATE[S],
        READ_BEFORE[S],
        PUT_BEFORE[S],
    )
    stacked_of, extra_of = STACKED[E], EXTRA[E]
    join, unless_vanished = _the_states if M else SUM[S], UNLESS_VANISHED[S]
    put, put_extra, add_partial = PUT[K], PUT_LAST[E], ADD_PARTIAL[P]
    zeros, zero_extra, zero_states = ZEROS[K], ZEROS[E], ZEROS[S]
    version = SOURCES

    def walk_backward(
        x, x_at, extra, extra_at, parameters, saved, saved_at, dy, dy_at, dx, dx_at, dextra, dextra_at, partial,
        reset, reset_at, before, grad, lengths, starts, reverse, T, H, block, first, last,
    ):  # fmt: skip
        version  # noqa: B018 - part of the cache key
        blocks = (H + block - 1) // block
        for unit in range(first, last):
            b = unit // blocks
            start = (unit - b * blocks) * block
            stop = min(start + block, H)
            length = lengths[b] if lengths.size > 0 else T
            s_row, p_row = b * S * H, b * P * H
            initial = np.empty(S * H, before.dtype)
            for n in range(S):
                for c in range(n * H + start, n * H + stop):
                    initial[c] = before[s_row + c]
            for s in range(length - 1, -1, -1):
                place = place_of(s, length, starts, reverse)
                x_row = b * x_at[0] + place * x_at[1]
                e_row = b * extra_at[0] + place * extra_at[1]
                dy_row = b * dy_at[0] + place * dy_at[1]
                dx_row = b * dx_at[0] + place * dx_at[1]
                de_row = b * dextra_at[0] + place * dextra_at[1]
                is_reset = reset.size > 0 and reset[b * reset_at[0] + place * reset_at[1]]
                if is_reset:
                    for c in range(start, stop):
                        put_before(before, s_row + c, H, zero_states)
                elif s == 0:
                    for c in range(start, stop):
                        put_before(before, s_row + c, H, states_of(initial, c, H))
                else:
                    saved_row = b * saved_at[0] + place_of(s - 1, length, starts, reverse) * saved_at[1]
                    for c in range(start, stop):
                        put_before(before, s_row + c, H, states_of(saved, saved_row + c, H))
                for c in range(start, stop):
                    inputs = inputs_of(x, x_row + c, H)
                    upstream = upstream_of(dy, dy_row + c, H)
                    downstream = read_state(grad, s_row + c, H)
                    dstates, dinputs, dparameters = back(
                        read_before(before, s_row + c, H),
                        inputs[:-1] + (activate(inputs[-1]),) + extras_of(extra, e_row + c, H),
                        parameters_of(parameters, c, H),
                        join(downstream, upstream),
                        upstream,
                    )
                    put_state(grad, s_row + c, H, unless_vanished(dstates))
                    dstacked = stacked_of(dinputs)
                    put(dx, dx_row + c, H, dstacked[:-1] + (dstacked[-1] * slope(inputs[-1]),))
                    put_extra(dextra, de_row + c, H, extra_of(dinputs))
                    add_partial(partial, p_row + c, H, dparameters)
                if is_reset:
                    for c in range(start, stop):
                        put_state(grad, s_row + c, H, zero_states)
            if starts.size == 0:
                for t in range(length, T):
                    for c in range(start, stop):
                        put(dx, b * dx_at[0] + t * dx_at[1] + c, H, zeros)
                        put_extra(dextra, b * dextra_at[0] + t * dextra_at[1] + c, H, zero_extra)

    return kernel(walk_backward, step_name, activation)
