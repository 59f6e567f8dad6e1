from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._autograd import differentiated
from ..kernels import conv
from ..kernels._threads import parallel
from . import _definitions
from ._common import SMALL_STEP, apply, differentiable_gradients, flat, fusable, working_dtype


def causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor, window: Tensor | None = None, reset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Depthwise causal convolution whose window is carried: y_t = bias + sum_w weight[:, w] * x_{t - (W-1) + w}.

    The "Conv4" of arXiv 2410.01201, Appendix C, is W = 4.

    Args:
        x: (B, T, D), float32, float64 or bfloat16.
        weight: (D, W), the newest input last.
        bias: (D,).
        window: the W-1 inputs before x, (B, W-1, D); zeros by default.
        reset: (B, T) bool; nothing before step t is seen from step t on where it is true.

    Returns:
        y: (B, T, D) in the dtype of x.
        window: the last W-1 inputs, (B, W-1, D), zero where a reset hides them: pass it with the next chunk.

    Raises:
        ValueError: a shape does not fit.

    Example:
        >>> y, window = causal_conv(x[:, :10], weight, bias)
        >>> z, window = causal_conv(x[:, 10:], weight, bias, window)   # torch.cat([y, z], 1) is the convolution of x
    """
    if x.dim() != 3 or not x.is_floating_point():
        raise ValueError(f"x has shape {tuple(x.shape)} and dtype {x.dtype}; expected (B, T, D) of a floating dtype")
    _, T, D = x.shape
    if weight.dim() != 2 or weight.shape[0] != D or weight.shape[1] < 1 or bias.shape != (D,):
        raise ValueError(
            f"weight has shape {tuple(weight.shape)} and bias {tuple(bias.shape)}; "
            f"expected (D, W) = ({D}, W) and (D,) = ({D},)"
        )
    full, reach, window = carried_window(x, weight.shape[1], window, reset)
    if T == 1 and reach is None and full.numel() <= SMALL_STEP:
        y = ((full.to(weight.dtype) * weight.T).sum(dim=1, keepdim=True) + bias).to(x.dtype)
    elif fusable(full, weight, bias):
        y = apply(_CausalConv, full, weight, bias, reach)
    else:
        y = _definitions.causal_conv(full, weight, bias, reach).to(x.dtype)
    return y, window


def carried_window(
    x: Tensor, W: int, window: Tensor | None, reset: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor]:
    """What a step that looks at W inputs needs: x (B, T, D) with the W-1 inputs before it in front, (B, W-1+T, D); how
    many of them each step may look back at, (B, T), None for W-1; and the window for the next chunk.

    Raises:
        ValueError: the shape of window or reset does not fit.
    """
    B, T, D = x.shape
    if reset is not None and (reset.shape != (B, T) or reset.dtype != torch.bool):
        raise ValueError(
            f"reset has shape {tuple(reset.shape)} and dtype {reset.dtype}; expected (B, T) = {(B, T)}, torch.bool"
        )
    if window is None:
        window = x.new_zeros(B, W - 1, D)
    elif window.shape != (B, W - 1, D):
        raise ValueError(f"window has shape {tuple(window.shape)}; expected (B, W-1, D) = {(B, W - 1, D)}")
    full = torch.cat([window.to(x.dtype), x], dim=1)
    reach = None if reset is None else _reach(reset, W)
    window = full[:, T:].clone()  # a view would keep all of x alive
    if reach is not None and T:
        age = torch.arange(W - 2, -1, -1, device=x.device)  # steps between an input of the window and the last step
        window = window.masked_fill((age > reach[:, -1:])[..., None], 0)
    return full, reach, window


def recent(x: Tensor, W: int, window: Tensor | None = None, reset: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
    """The W newest inputs at each step, x_{t-W+1} to x_t, zero before the start: W tensors (B, T, D), and the window
    (B, W-1, D) to pass with the next chunk. Arguments as in `causal_conv`.

    Example:
        >>> (before, now), window = recent(x, 2)
    """
    full, reach, window = carried_window(x, W, window, reset)
    T = x.shape[1]
    shifted = [full[:, w : w + T] for w in range(W)]
    if reach is not None:
        shifted = [torch.where(reach[..., None] >= W - 1 - w, inputs, 0) for w, inputs in enumerate(shifted)]
    return shifted, window


def _reach(reset: Tensor, W: int) -> Tensor:
    """How many steps back each step may look, (B, T) int64: W - 1, or less since the last reset."""
    t = torch.arange(reset.shape[1], device=reset.device)
    last_reset = torch.where(reset, t, -W).cummax(dim=1).values if reset.shape[1] else t.expand_as(reset)
    return (t - last_reset).clamp(max=W - 1)


class _CausalConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, full: Tensor, weight: Tensor, bias: Tensor, reach: Tensor | None) -> Tensor:
        full = full.contiguous()
        ctx.save_for_backward(full, weight, bias, reach)
        B, padded, D = full.shape
        W = weight.shape[1]
        T = padded - (W - 1)
        y = full.new_empty(B, T, D)
        dtype = working_dtype(full)
        arguments = (
            flat(full),
            flat(weight.to(dtype).T.contiguous()),
            flat(bias.to(dtype)),
            _flat_reach(reach),
            flat(y),
            T,
            D,
            W,
        )
        if y.numel():
            parallel(
                lambda first, last: conv.causal_conv()(*arguments, first, last), B * -(-T // conv.STEPS), y.numel()
            )
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        full, weight, bias, reach = ctx.saved_tensors
        if differentiated(dy):
            gradients = differentiable_gradients(
                lambda full, weight, bias: _definitions.causal_conv(full, weight, bias, reach), (full, weight, bias), dy
            )
            return *gradients, None
        B, padded, D = full.shape
        W = weight.shape[1]
        T = padded - (W - 1)
        units = B * -(-padded // conv.STEPS)
        dfull = torch.empty_like(full)
        partial = full.new_zeros(units, W + 1, D, dtype=working_dtype(full))
        weights = flat(weight.to(partial.dtype).T.contiguous())
        arguments = (
            flat(full),
            weights,
            _flat_reach(reach),
            flat(dy.contiguous()),
            flat(dfull),
            flat(partial),
            T,
            D,
            W,
        )
        if full.numel():
            parallel(lambda first, last: conv.causal_conv_back()(*arguments, first, last), units, full.numel())
        gradients = partial.sum(dim=0)
        return dfull, gradients[:W].T.to(weight.dtype), gradients[W].to(bias.dtype), None


_NO_REACH = torch.empty(0, dtype=torch.int64)


def _flat_reach(reach: Tensor | None) -> Any:
    return flat(_NO_REACH if reach is None else reach)
