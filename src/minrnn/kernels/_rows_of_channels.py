"""Tuples of channels: a row holds n vectors of H channels one after the other, and these read or write channel i of
each.

One function for each n, all at the level of the module, because kernels are cached by the names of what they call; and
one family for each role of memory (see `_memory`), because vectors of the same row are told apart by their role alone.
"""

from __future__ import annotations

from ._compile import scalar
from ._memory import (
    read_before0,
    read_before1,
    read_before2,
    read_in,
    read_partial0,
    read_partial1,
    read_partial2,
    read_state0,
    read_state1,
    read_state2,
    write_before0,
    write_before1,
    write_before2,
    write_out0,
    write_out1,
    write_out2,
    write_out3,
    write_out4,
    write_partial0,
    write_partial1,
    write_partial2,
    write_state0,
    write_state1,
    write_state2,
)  # fmt: skip
from ._scalar import unless_vanished


@scalar
def _in0(x, i, H):
    return ()


@scalar
def _in1(x, i, H):
    return (read_in(x, i),)


@scalar
def _in2(x, i, H):
    return read_in(x, i), read_in(x, i + H)


@scalar
def _in3(x, i, H):
    return read_in(x, i), read_in(x, i + H), read_in(x, i + 2 * H)


@scalar
def _in4(x, i, H):
    return read_in(x, i), read_in(x, i + H), read_in(x, i + 2 * H), read_in(x, i + 3 * H)


@scalar
def _state1(x, i, H):
    return (read_state0(x, i),)


@scalar
def _state2(x, i, H):
    return read_state0(x, i), read_state1(x, i + H)


@scalar
def _state3(x, i, H):
    return read_state0(x, i), read_state1(x, i + H), read_state2(x, i + 2 * H)


@scalar
def _put_state1(x, i, H, values):
    write_state0(x, i, values[0])


@scalar
def _put_state2(x, i, H, values):
    write_state0(x, i, values[0])
    write_state1(x, i + H, values[1])


@scalar
def _put_state3(x, i, H, values):
    write_state0(x, i, values[0])
    write_state1(x, i + H, values[1])
    write_state2(x, i + 2 * H, values[2])


@scalar
def _before1(x, i, H):
    return (read_before0(x, i),)


@scalar
def _before2(x, i, H):
    return read_before0(x, i), read_before1(x, i + H)


@scalar
def _before3(x, i, H):
    return read_before0(x, i), read_before1(x, i + H), read_before2(x, i + 2 * H)


@scalar
def _put_before1(x, i, H, values):
    write_before0(x, i, values[0])


@scalar
def _put_before2(x, i, H, values):
    write_before0(x, i, values[0])
    write_before1(x, i + H, values[1])


@scalar
def _put_before3(x, i, H, values):
    write_before0(x, i, values[0])
    write_before1(x, i + H, values[1])
    write_before2(x, i + 2 * H, values[2])


@scalar
def _put_out0(x, i, H, values):
    pass


@scalar
def _put_out1(x, i, H, values):
    write_out0(x, i, values[0])


@scalar
def _put_out2(x, i, H, values):
    write_out0(x, i, values[0])
    write_out1(x, i + H, values[1])


@scalar
def _put_out3(x, i, H, values):
    write_out0(x, i, values[0])
    write_out1(x, i + H, values[1])
    write_out2(x, i + 2 * H, values[2])


@scalar
def _put_out4(x, i, H, values):
    write_out0(x, i, values[0])
    write_out1(x, i + H, values[1])
    write_out2(x, i + 2 * H, values[2])
    write_out3(x, i + 3 * H, values[3])


@scalar
def _put_last0(x, i, H, values):
    pass


@scalar
def _put_last1(x, i, H, values):
    write_out4(x, i, values[0])


@scalar
def _put_saved1(x, i, H, values):
    write_out2(x, i, values[0])


@scalar
def _put_saved2(x, i, H, values):
    write_out2(x, i, values[0])
    write_out3(x, i + H, values[1])


@scalar
def _put_saved3(x, i, H, values):
    write_out2(x, i, values[0])
    write_out3(x, i + H, values[1])
    write_out4(x, i + 2 * H, values[2])


@scalar
def _add_partial0(x, i, H, values):
    pass


@scalar
def _add_partial1(x, i, H, values):
    write_partial0(x, i, read_partial0(x, i) + values[0])


@scalar
def _add_partial2(x, i, H, values):
    write_partial0(x, i, read_partial0(x, i) + values[0])
    write_partial1(x, i + H, read_partial1(x, i + H) + values[1])


@scalar
def _add_partial3(x, i, H, values):
    write_partial0(x, i, read_partial0(x, i) + values[0])
    write_partial1(x, i + H, read_partial1(x, i + H) + values[1])
    write_partial2(x, i + 2 * H, read_partial2(x, i + 2 * H) + values[2])


@scalar
def _none_of_two(a, b):
    return ()


@scalar
def _sum1(a, b):
    return (a[0] + b[0],)


@scalar
def _sum2(a, b):
    return a[0] + b[0], a[1] + b[1]


@scalar
def _sum3(a, b):
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@scalar
def _settled1(values):
    return (unless_vanished(values[0]),)


@scalar
def _settled2(values):
    return unless_vanished(values[0]), unless_vanished(values[1])


@scalar
def _settled3(values):
    return unless_vanished(values[0]), unless_vanished(values[1]), unless_vanished(values[2])


@scalar
def _all(values):
    return values


@scalar
def _none(values):
    return ()


@scalar
def _but_the_last(values):
    return values[:-1]


@scalar
def _last(values):
    return (values[-1],)


READ = (_in0, _in1, _in2, _in3, _in4)
READ_STATE, PUT_STATE = (_in0, _state1, _state2, _state3), (_put_out0, _put_state1, _put_state2, _put_state3)
READ_BEFORE, PUT_BEFORE = (_in0, _before1, _before2, _before3), (_put_out0, _put_before1, _put_before2, _put_before3)
PUT = (_put_out0, _put_out1, _put_out2, _put_out3, _put_out4)
PUT_LAST = (_put_last0, _put_last1)
"""Into the vector that is written beside those of `PUT`."""
PUT_SAVED = (_put_out0, _put_saved1, _put_saved2, _put_saved3)
"""Beside up to two vectors of `PUT`."""
ADD_PARTIAL = (_add_partial0, _add_partial1, _add_partial2, _add_partial3)
ZEROS = ((), (0,), (0, 0), (0, 0, 0), (0, 0, 0, 0))
SUM = (_none_of_two, _sum1, _sum2, _sum3)
UNLESS_VANISHED = (_all, _settled1, _settled2, _settled3)
STACKED, EXTRA = (_all, _but_the_last), (_none, _last)
"""Of all inputs of a step, where so many are not stacked."""
