"""Recurrences whose kernels are not the walk's: what a kernel module and a definition need to become one function of
tensors, in eager and compiled code, differentiable to every order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from .._autograd import differentiated, forward_mode, vjp
from ..kernels._threads import parallel
from . import _backend
from ._cpu import flat

Result = tuple[Tensor, Tensor]


def fused(
    name: str,
    kernels: ModuleType,
    definition: Callable[..., Result],
    gradients: Sequence[str],
    sizes: Callable[[Sequence[Tensor]], tuple[int, ...]],
    block: Callable[[Sequence[Tensor]], int] | None = None,
) -> Callable[..., Result]:
    """A function of (*inputs, state, reset=None) -> outputs (B, T, E), last state, for inputs the first of which is
    (B, T, ...) and a state (B, ..., E).

    Args:
        name: of the registered operators.
        kernels: a module with `forward` and `backward`, see `kernels.selective`, that take the inputs, what they write,
            `saved` (B, stretches, ..., E), the reset, the state, and the sizes; states are saved every STRETCH
            steps, and COST tells when work is worth sharing out.
        definition: the same as a loop in torch; it serves single steps, other devices, `torch.func` and derivatives of
            higher order.
        gradients: for each input how the backward kernel gives its gradient: "row", in its shape; "sequence", one in
            its shape for each sequence, added to; "block", (B, blocks, ...) for an input (B, ...), one for each block.
        sizes: T, E and what else the kernels take, of the inputs and the state.
        block: channels in a unit of work, of the inputs and the state; `kernels.BLOCK` by default.
    """

    def units(tensors: Sequence[Tensor]) -> int:
        width = int(kernels.BLOCK) if block is None else block(tensors)
        return len(tensors[0]) * -(-sizes(tensors)[1] // width)

    def outputs(tensors: Sequence[Tensor], keep: bool) -> tuple[Tensor, Tensor, Tensor]:
        *_, state = tensors
        B, (T, E, *_) = len(tensors[0]), sizes(tensors)
        saved = state.new_empty(B, -(-T // kernels.STRETCH) if keep else 0, *state.shape[1:])
        return tensors[0].new_empty(B, T, E), torch.empty_like(state), saved

    @torch.library.custom_op(f"minrnn::{name}", mutates_args=())
    def run(tensors: Sequence[Tensor], reset: Tensor | None, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
        *inputs, state = tensors
        y, last, saved = outputs(tensors, keep)
        last.copy_(state)
        arrays = [flat(tensor) for tensor in (*inputs, y, saved)]
        arguments = (*arrays, _flat_reset(reset, state), flat(last), *sizes(tensors))
        kernel = kernels.forward()
        parallel(lambda first, last: kernel(*arguments, first, last), units(tensors), y.numel() * kernels.COST)
        return y, last, saved

    @run.register_fake
    def _(tensors: Sequence[Tensor], reset: Tensor | None, keep: bool) -> tuple[Tensor, Tensor, Tensor]:
        return outputs(tensors, keep)

    @torch.library.custom_op(f"minrnn::{name}_backward", mutates_args=())
    def run_back(
        tensors: Sequence[Tensor], reset: Tensor | None, saved: Tensor, dy: Tensor, dlast: Tensor
    ) -> list[Tensor]:
        *inputs, state = tensors
        blocks = units(tensors) // max(len(state), 1)
        parts = []
        for tensor, kind in zip(inputs, gradients, strict=True):
            if kind == "row":
                parts.append(torch.empty_like(tensor))
            elif kind == "sequence":
                parts.append(tensor.new_zeros(len(state), *tensor.shape))
            else:
                parts.append(state.new_empty(len(tensor), blocks, *tensor.shape[1:]))
        grad = dlast.clone()
        arrays = [flat(tensor) for tensor in (*inputs, saved, dy, *parts)]
        arguments = (*arrays, _flat_reset(reset, state), flat(grad), *sizes(tensors))
        kernel = kernels.backward()
        parallel(lambda first, last: kernel(*arguments, first, last), units(tensors), 3 * dy.numel() * kernels.COST)
        axes = {"sequence": 0, "block": 1}
        summed = [
            part if kind == "row" else part.sum(dim=axes[kind]).to(tensor.dtype)
            for tensor, kind, part in zip(inputs, gradients, parts, strict=True)
        ]
        return [*summed, grad]

    @run_back.register_fake
    def _(tensors: Sequence[Tensor], reset: Tensor | None, saved: Tensor, dy: Tensor, dlast: Tensor) -> list[Tensor]:
        return [torch.empty_like(tensor) for tensor in tensors]

    def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
        tensors, reset, _ = inputs
        ctx.save_for_backward(*tensors, reset, output[2])
        ctx.set_materialize_grads(False)  # `saved` is large, and nothing depends on it

    def back(ctx: Any, dy: Tensor | None, dlast: Tensor | None, _: None) -> tuple[Any, None, None]:
        *tensors, reset, saved = ctx.saved_tensors
        T, E = sizes(tensors)[:2]
        dy = tensors[0].new_zeros(len(tensors[0]), T, E) if dy is None else dy
        dlast = torch.zeros_like(tensors[-1]) if dlast is None else dlast
        if not torch.compiler.is_compiling() and differentiated(dy, dlast):
            _, pull_back = vjp(partial(definition, reset=reset), *tensors)
            return list(pull_back((dy, dlast))), None, None
        return run_back(tensors, reset, saved, dy.contiguous(), dlast.contiguous()), None, None

    run.register_autograd(back, setup_context=save)

    def function(*tensors: Tensor, reset: Tensor | None = None) -> Result:
        x = tensors[0]
        chosen = _backend.choose(x.device)
        transforming = torch._C._are_functorch_transforms_active() or forward_mode()
        if x.shape[1] == 1 or chosen != "cpu" or _backend.unsuited(chosen, x.device) or transforming:
            return definition(*tensors, reset=reset)
        if x.dtype == torch.float16:  # float32 loses nothing, and no kernel needs to know
            y, last = function(*(tensor.float() for tensor in tensors), reset=reset)
            return y.half(), last
        y, last, _ = run([tensor.contiguous() for tensor in tensors], reset, torch.is_grad_enabled())
        return y, last

    return function


def _flat_reset(reset: Tensor | None, like: Tensor) -> Any:
    return flat((like.new_empty(0, dtype=torch.bool) if reset is None else reset.contiguous()).view(torch.uint8))
