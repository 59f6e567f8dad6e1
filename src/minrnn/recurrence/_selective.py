"""The selective scan of Mamba: a definition, and fused CPU kernels behind registered operators."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from .._autograd import vjp
from ..kernels import selective
from ..kernels._threads import parallel
from . import _backend
from ._cpu import flat
from ._walk import forward_mode


def selective_scan(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """h_t = exp(delta_t A) h_{t-1} + delta_t B_t x_t, y_t = C_t h_t + D x_t (arXiv 2312.00752, section 3), where every
    channel has N states. Arguments are trusted: mixers check them. Nothing of B x T x E x N is stored.

    Args:
        x, delta: (B, T, E) of one dtype.
        A: (N, E), negative; in the dtype of the state, as D and the state are.
        B, C: (B, T, N), in the dtype of x.
        D: (E,)
        state: before the first step, (B, N, E), float32 or float64.
        reset: (B, T) bool; the state is zeroed before step t where it is true.

    Returns:
        y (B, T, E) in the dtype of x; the last state, (B, N, E).
    """
    chosen = _backend.choose(x.device)
    transforming = torch._C._are_functorch_transforms_active() or forward_mode()
    if x.shape[1] == 1 or chosen != "cpu" or _backend.unsuited(chosen, x.device) or transforming:
        return definition(x, delta, A, B, C, D, state, reset=reset)
    if x.dtype == torch.float16:  # float32 loses nothing, and no kernel needs to know
        y, last = selective_scan(x.float(), delta.float(), A, B.float(), C.float(), D, state, reset)
        return y.half(), last
    keep = torch.is_grad_enabled()
    y, last, _ = _selective_op(*_contiguous(x, delta, A, B, C, D, state), reset, keep)
    return y, last


def definition(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor, *, reset: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The loop over time that the kernels must agree with."""
    h, dtype = state, x.dtype
    x, delta, B, C = (tensor.to(state.dtype) for tensor in (x, delta, B, C))
    outputs = []
    for t in range(x.shape[1]):
        if reset is not None:
            h = torch.where(reset[:, t, None, None], 0, h)
        h = torch.exp(delta[:, t, None] * A) * h + (delta[:, t] * x[:, t])[:, None] * B[:, t, :, None]
        outputs.append((C[:, t, :, None] * h).sum(dim=1) + D * x[:, t])
    y = torch.stack(outputs, dim=1) if outputs else torch.zeros_like(x)
    return y.to(dtype), h


def _contiguous(*tensors: Tensor) -> list[Tensor]:
    return [tensor.contiguous() for tensor in tensors]


def _sizes(x: Tensor, A: Tensor) -> tuple[int, int, int, int]:
    """T, E, N, and the units of work of the kernels."""
    B, T, E = x.shape
    return T, E, len(A), B * -(-E // selective.BLOCK)


def _stretches(T: int) -> int:
    return -(-T // selective.STRETCH)


def _flat_reset(reset: Tensor | None, like: Tensor) -> Any:
    return flat((like.new_empty(0, dtype=torch.bool) if reset is None else reset.contiguous()).view(torch.uint8))


@torch.library.custom_op("minrnn::selective", mutates_args=())
def _selective_op(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor,
    reset: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    T, E, N, units = _sizes(x, A)
    y, last = torch.empty_like(x), state.clone()
    saved = state.new_empty(len(x), _stretches(T) if keep else 0, N, E)
    arrays = [flat(tensor) for tensor in (x, delta, A, B, C, D, y, saved)]
    arguments = (*arrays, _flat_reset(reset, x), flat(last), T, E, N)
    kernel = selective.forward()
    parallel(lambda first, last: kernel(*arguments, first, last), units, x.numel() * N)
    return y, last, saved


@_selective_op.register_fake
def _(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    state: Tensor,
    reset: Tensor | None,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    saved = state.new_empty(len(x), _stretches(x.shape[1]) if keep else 0, *A.shape)
    return torch.empty_like(x), torch.empty_like(state), saved


@torch.library.custom_op("minrnn::selective_backward", mutates_args=())
def _selective_backward_op(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    saved: Tensor,
    reset: Tensor | None,
    dy: Tensor,
    dlast: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    T, E, N, units = _sizes(x, A)
    dx, ddelta, grad = torch.empty_like(x), torch.empty_like(delta), dlast.clone()
    batch = len(x)
    dB, dC = (A.new_empty(batch, units // max(batch, 1), T, N) for _ in range(2))
    dA, dD = A.new_zeros(batch, N, E), A.new_zeros(batch, E)
    inputs = [flat(tensor) for tensor in (x, delta, A, B, C, D, saved, dy)]
    outputs = [flat(tensor) for tensor in (dx, ddelta, dB, dC, dA, dD)]
    arguments = (*inputs, *outputs, _flat_reset(reset, x), flat(grad), T, E, N)
    kernel = selective.backward()
    parallel(lambda first, last: kernel(*arguments, first, last), units, 3 * x.numel() * N)
    return dx, ddelta, dA.sum(dim=0), dB.sum(dim=1).to(B.dtype), dC.sum(dim=1).to(C.dtype), dD.sum(dim=0), grad


@_selective_backward_op.register_fake
def _(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    saved: Tensor,
    reset: Tensor | None,
    dy: Tensor,
    dlast: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    gradients = [torch.empty_like(tensor) for tensor in (x, delta, A, B, C, D, dlast)]
    return tuple(gradients)  # type: ignore[return-value]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    *tensors, reset, _ = inputs
    ctx.save_for_backward(*tensors, reset, output[2])


def _op_backward(ctx: Any, dy: Tensor, dlast: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, state, reset, saved = ctx.saved_tensors
    if torch.is_grad_enabled() and not torch.compiler.is_compiling():  # it is differentiated itself
        _, pull_back = vjp(partial(definition, reset=reset), *tensors, state)
        return *pull_back((dy, dlast)), None, None
    gradients = _selective_backward_op(*tensors, saved, reset, dy.contiguous(), dlast.contiguous())
    return *gradients, None, None


_selective_op.register_autograd(_op_backward, setup_context=_save)
