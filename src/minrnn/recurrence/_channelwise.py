"""`channelwise`: recurrences that `walk` does not serve: several states, outputs beside the states, parameters of each
channel, or steps that are not affine in the state.

One pass of the fused CPU kernels each way. Derivatives of higher order, forward mode, `torch.func` and other devices
go through the loop that defines the recurrence.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._autograd import differentiated, forward_mode, nothing_to_record, vjp
from . import _backend
from ._definitions import RECURRENCES, Recurrence, definition, single_step
from ._layout import empty_rows
from ._walk import EVERYWHERE, SMALL_STEP


def channelwise(
    recurrence: str,
    inputs: Tensor,
    state: Tensor | None = None,
    reset: Tensor | None = None,
    *,
    extra: Tensor | None = None,
    parameters: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run one recurrence over time. Arguments are trusted: mixers check them.

    Args:
        recurrence: a name of `RECURRENCES`, such as `"rwkv4"`.
        inputs: the K stacked projections, (B, T, K*H).
        state: the S states before the first step, (B, S*H); zeros by default.
        reset: (B, T) bool; the states are zeroed before step t where it is true.
        extra: the input that is not stacked, (B, T, H), where the recurrence has one.
        parameters: (P, H), where it has some.

    Returns:
        The M outputs (B, T, M*H), or the states (B, T, S*H) of recurrences whose states are the output, in the dtype
        of `inputs`; and the last states, (B, S*H), in float32 (float64 for float64).
    """
    chosen, r = _backend.choose(inputs.device), RECURRENCES[recurrence]
    if parameters is not None:
        parameters = parameters.to(torch.promote_types(inputs.dtype, torch.float32)).contiguous()
    compiling, transforming = torch.compiler.is_compiling(), torch._C._are_functorch_transforms_active()
    short = inputs.shape[1] == 1 and inputs.numel() <= SMALL_STEP and not compiling
    if short and reset is None:
        return single_step(r, inputs, state, extra, parameters)
    if chosen != "cpu" or _backend.unsuited(chosen, inputs.device) or forward_mode() or transforming:
        return definition(r, inputs, state, reset, False, None, extra, parameters)
    if inputs.dtype == torch.float16:  # float32 loses nothing, and no kernel needs to know
        widened = None if extra is None else extra.float()
        y, last = channelwise(recurrence, inputs.float(), state, reset, extra=widened, parameters=parameters)
        return y.half(), last
    arguments = (inputs, extra, parameters, state, reset, recurrence)
    if compiling:
        y, last, _ = _channelwise_op(*arguments, torch.is_grad_enabled())
        return y, last
    if nothing_to_record():
        y, last, _ = _forward(*arguments, keep=False)
        return y, last
    return _Channelwise.apply(*arguments)  # type: ignore[no-any-return,no-untyped-call]


def _forward(
    inputs: Tensor,
    extra: Tensor | None,
    parameters: Tensor | None,
    state: Tensor | None,
    reset: Tensor | None,
    name: str,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """y, the last states, and all states (B, T, S*H) where the way back needs them and the output has them not."""
    r = RECURRENCES[name]
    saved = _empty_states(r, inputs) if keep and r.outputs else None
    y, last = _backend.kernels("cpu").forward(
        *(name, inputs, state, reset, EVERYWHERE, False), extra=extra, parameters=parameters, saved=saved
    )
    return y, last, saved


def _empty_states(r: Recurrence, inputs: Tensor) -> Tensor:
    B, T, KH = inputs.shape
    return inputs.new_empty(B, T, r.states * KH // r.inputs, dtype=torch.promote_types(inputs.dtype, torch.float32))


def _backward(
    inputs: Tensor,
    extra: Tensor | None,
    parameters: Tensor | None,
    state: Tensor | None,
    reset: Tensor | None,
    states: Tensor,
    dy: Tensor,
    dlast: Tensor,
    name: str,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor]:
    """Gradients of inputs, extra, parameters and state."""
    dextra = None if extra is None else empty_rows(extra, extra.shape[-1])
    partial = None if parameters is None else parameters.new_zeros(len(inputs), parameters.numel())
    dx, dstate = _backend.kernels("cpu").backward(
        *(name, inputs, state, reset, EVERYWHERE, states, dy, dlast, False),
        extra=extra,
        dextra=dextra,
        parameters=parameters,
        partial=partial,
    )
    dparameters = None if partial is None or parameters is None else partial.sum(dim=0).view_as(parameters)
    return dx, dextra, dparameters, dstate


class _Channelwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        extra: Tensor | None,
        parameters: Tensor | None,
        state: Tensor | None,
        reset: Tensor | None,
        name: str,
    ) -> tuple[Tensor, Tensor]:
        keep = any(ctx.needs_input_grad)
        y, last, saved = _forward(inputs, extra, parameters, state, reset, name, keep)
        ctx.save_for_backward(inputs, extra, parameters, state, reset, y if saved is None else saved)
        ctx.name = name
        return y, last

    @staticmethod
    def backward(ctx: Any, dy: Tensor, dlast: Tensor) -> tuple[Tensor | None, ...]:
        inputs, extra, parameters, state, reset, states = ctx.saved_tensors
        if differentiated(dy, dlast):
            return _differentiable_backward(inputs, extra, parameters, state, reset, dy, dlast, ctx.name)
        *gradients, dstate = _backward(inputs, extra, parameters, state, reset, states, dy, dlast, ctx.name)
        return *gradients, None if state is None else dstate.to(state.dtype), None, None


def _differentiable_backward(
    inputs: Tensor,
    extra: Tensor | None,
    parameters: Tensor | None,
    state: Tensor | None,
    reset: Tensor | None,
    dy: Tensor,
    dlast: Tensor,
    name: str,
) -> tuple[Tensor | None, ...]:
    given = {"inputs": inputs, "extra": extra, "parameters": parameters, "state": state}
    present = {key: value for key, value in given.items() if value is not None}

    def run(tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        t = tensors.get
        return definition(
            RECURRENCES[name], tensors["inputs"], t("state"), reset, False, None, t("extra"), t("parameters")
        )

    _, pull_back = vjp(run, present)
    (gradients,) = pull_back((dy, dlast))
    return *(gradients.get(key) for key in given), None, None


# --- the registered operators; no operator returns None or one of its arguments ---------------------------------------


@torch.library.custom_op("minrnn::channelwise", mutates_args=())
def _channelwise_op(
    inputs: Tensor,
    extra: Tensor | None,
    parameters: Tensor | None,
    state: Tensor | None,
    reset: Tensor | None,
    name: str,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    y, last, saved = _forward(inputs, extra, parameters, state, reset, name, keep)
    return y, last, inputs.new_empty(0) if saved is None else saved


@_channelwise_op.register_fake
def _(
    inputs: Tensor,
    extra: Tensor | None,
    parameters: Tensor | None,
    state: Tensor | None,
    reset: Tensor | None,
    name: str,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    r = RECURRENCES[name]
    H = inputs.shape[-1] // r.inputs
    last = inputs.new_empty(len(inputs), r.states * H, dtype=torch.promote_types(inputs.dtype, torch.float32))
    saved = _empty_states(r, inputs) if keep and r.outputs else inputs.new_empty(0)
    return empty_rows(inputs, r.width * H), last, saved


@torch.library.custom_op("minrnn::channelwise_backward", mutates_args=())
def _channelwise_backward_op(
    inputs: Tensor,
    extra: Tensor | None,
    parameters: Tensor | None,
    state: Tensor | None,
    reset: Tensor | None,
    states: Tensor,
    dy: Tensor,
    dlast: Tensor,
    name: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    gradients = _backward(inputs, extra, parameters, state, reset, states, dy, dlast, name)
    dx, dextra, dparameters, dstate = (inputs.new_empty(0) if g is None else g for g in gradients)
    return dx, dextra, dparameters, dstate


@_channelwise_backward_op.register_fake
def _(
    inputs: Tensor,
    extra: Tensor | None,
    parameters: Tensor | None,
    state: Tensor | None,
    reset: Tensor | None,
    states: Tensor,
    dy: Tensor,
    dlast: Tensor,
    name: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    dextra = inputs.new_empty(0) if extra is None else empty_rows(extra, extra.shape[-1])
    dparameters = inputs.new_empty(0) if parameters is None else torch.empty_like(parameters)
    return empty_rows(inputs, inputs.shape[-1]), dextra, dparameters, dlast.new_empty(dlast.shape)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, ctx.name, _ = inputs
    y, _, saved = output
    ctx.save_for_backward(*tensors, saved if RECURRENCES[ctx.name].outputs else y)


def _op_backward(ctx: Any, dy: Tensor, dlast: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    inputs, extra, parameters, state, reset, states = ctx.saved_tensors
    arguments = (inputs, extra, parameters, state, reset, states, dy, dlast, ctx.name)
    dx, dextra, dparameters, dstate = _channelwise_backward_op(*arguments)
    return (
        dx,
        None if extra is None else dextra,
        None if parameters is None else dparameters,
        None if state is None else dstate.to(state.dtype),
        *[None] * 3,
    )


_channelwise_op.register_autograd(_op_backward, setup_context=_save)
