"""Loads and stores of kernels. Every access belongs to a role, and memory of different roles does not overlap.

LLVM vectorises a loop only if it can show that its stores meet none of its loads. It cannot for rows that interleave
in time (the gradients of gate and candidate, say), so each access says its role in alias metadata. An index is taken
as it is: Numba's own indexing wraps negative ones, which turns loads into gathers. bfloat16, the upper half of a
float32, comes in uint16 arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from ._compile import INLINE

ROLES = (
    "in",
    *(f"out{n}" for n in range(5)),
    *(f"{role}{n}" for role in ("state", "before", "partial") for n in range(3)),
)


def bitcast(target: types.Type) -> Any:
    """An intrinsic that reads the bits of a number as those of another type of the same size."""

    @intrinsic
    def cast(typing_context, x):
        def generate(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], context.get_value_type(target))

        return target(x), generate

    return cast


as_int32 = bitcast(types.int32)
as_uint32 = bitcast(types.uint32)
as_float32 = bitcast(types.float32)


def _element(context: Any, builder: Any, array_type: Any, array: Any, i: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [i])


def _mark(builder: Any, instruction: Any, role: str) -> None:
    module = builder.module
    domain = module.add_metadata([ir.MetaDataString(module, "minrnn")])
    scopes = {name: module.add_metadata([ir.MetaDataString(module, f"minrnn {name}"), domain]) for name in ROLES}
    instruction.set_metadata("alias.scope", module.add_metadata([scopes[role]]))
    instruction.set_metadata("noalias", module.add_metadata([scopes[name] for name in ROLES if name != role]))


def _loader(role: str) -> Any:
    @intrinsic
    def load(typing_context, array, i):
        def generate(context, builder, signature, arguments):
            value = builder.load(_element(context, builder, signature.args[0], *arguments))
            _mark(builder, value, role)
            return value

        return array.dtype(array, types.int64), generate

    return load


def _storer(role: str) -> Any:
    @intrinsic
    def store(typing_context, array, i, value):
        def generate(context, builder, signature, arguments):
            array, i, value = arguments
            _mark(builder, builder.store(value, _element(context, builder, signature.args[0], array, i)), role)
            return context.get_dummy_value()

        return types.void(array, types.int64, array.dtype), generate

    return store


def _reader(role: str) -> Any:
    """`read(array, i)`: the element as float32 or float64."""
    load = _loader(role)

    def read(array, i):
        raise AssertionError("compiled code only")

    @overload(read, jit_options=INLINE)
    def _(array, i):
        if array.dtype == types.uint16:
            return lambda array, i: as_float32(np.uint32(np.uint32(load(array, i)) << 16))
        return lambda array, i: load(array, i)

    return read


def _writer(role: str) -> Any:
    """`write(array, i, value)`: rounded to the nearest even bfloat16 where the array is one; NaN stays NaN."""
    store = _storer(role)

    def write(array, i, value):
        raise AssertionError("compiled code only")

    @overload(write, jit_options=INLINE)
    def _(array, i, value):
        if array.dtype != types.uint16:
            return lambda array, i, value: store(array, i, value)

        def rounded(array, i, value):
            bits = as_uint32(np.float32(value))
            up = np.uint32(bits + np.uint32(np.uint32(0x7FFF) + np.uint32(np.uint32(bits >> 16) & np.uint32(1))))
            kept = np.uint32(0x7FC00000) if value != value else up
            store(array, i, np.uint16(np.uint32(kept >> 16)))

        return rounded

    return write


read_in = _reader("in")
write_out0, write_out1, write_out2, write_out3, write_out4 = (_writer(f"out{n}") for n in range(5))
read_state0, read_state1, read_state2 = (_reader(f"state{n}") for n in range(3))
write_state0, write_state1, write_state2 = (_writer(f"state{n}") for n in range(3))
read_before0, read_before1, read_before2 = (_reader(f"before{n}") for n in range(3))
write_before0, write_before1, write_before2 = (_writer(f"before{n}") for n in range(3))
read_partial0, read_partial1, read_partial2 = (_reader(f"partial{n}") for n in range(3))
write_partial0, write_partial1, write_partial2 = (_writer(f"partial{n}") for n in range(3))
