"""The public functions: checked arguments, then `walk` over the stacked inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from ._definitions import ACTIVATIONS
from ._walk import walk


def mingru(
    gate: Tensor,
    candidate: Tensor,
    h0: Tensor | None = None,
    *,
    activation: str = "identity",
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """minGRU: z_t = sigmoid(gate_t), h_t = (1 - z_t) * h_{t-1} + z_t * act(candidate_t) (arXiv 2410.01201, section
    3.1).

    Args:
        gate: logits of the update gate, (B, T, H), float32, float64, bfloat16 or float16.
        candidate: candidate hidden states before their activation, like `gate`.
        h0: the *state* before the first step, (B, H), never passed through the activation. Zeros by default.
        activation: `"identity"` (the paper's section 3.1), `"g"` (positive, Appendix B.2.1) or `"tanh"`.
        reset: (B, T) bool; where it is true, the state is zeroed before step t. None by default.

    Returns:
        h: all states, (B, T, H), in the dtype of `gate`.
        h_last: the state after step T (h0 where T is 0), (B, H), float32, or float64 for float64: pass it as the next
            chunk's `h0`.

    Raises:
        TypeError, ValueError: a shape, dtype, device or name does not fit; the message says which and what is expected.

    Example:
        >>> gate, candidate = torch.randn(2, 8, 100, 64)
        >>> h, h_last = mingru(gate, candidate)
        >>> h.shape, h_last.shape
        (torch.Size([8, 100, 64]), torch.Size([8, 64]))

    A layer that computes both inputs in one matrix product should hand the product over whole: see `MinGRU`.
    """
    _check({"gate": gate, "candidate": candidate}, h0, reset, activation)
    return walk(f"mingru/{activation}", torch.cat([gate, candidate], dim=-1), h0, reset)


def minlstm(
    forget: Tensor,
    input: Tensor,
    candidate: Tensor,
    h0: Tensor | None = None,
    *,
    activation: str = "identity",
    normalize: bool = True,
    reset: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """minLSTM: f, i = sigmoid(forget_t), sigmoid(input_t), h_t = f/(f+i) * h_{t-1} + i/(f+i) * act(candidate_t).

    Source: arXiv 2410.01201, section 3.2.

    Args:
        forget, input: logits of the two gates, (B, T, H), float32, float64, bfloat16 or float16.
        candidate: candidate hidden states before their activation, like `forget`.
        h0: the *state* before the first step, (B, H). Zeros by default.
        activation: `"identity"`, `"g"` (positive, Appendix B.2.1) or `"tanh"`.
        normalize: divide both gates by f + i, as the paper does. False is the default of the authors' released code;
            its state may grow
            or shrink with the length.
        reset: (B, T) bool; where it is true, the state is zeroed before step t. None by default.

    Returns:
        h (B, T, H) and h_last (B, H), as from `mingru`.

    Raises:
        TypeError, ValueError: as `mingru`.

    Example:
        >>> forget, input, candidate = torch.randn(3, 8, 100, 64)
        >>> h, h_last = minlstm(forget, input, candidate)
    """
    _check({"forget": forget, "input": input, "candidate": candidate}, h0, reset, activation)
    name = "minlstm" if normalize else "minlstm_unnormalized"
    return walk(f"{name}/{activation}", torch.cat([forget, input, candidate], dim=-1), h0, reset)


def linear_recurrence(
    a: Tensor, b: Tensor, h0: Tensor | None = None, *, reset: Tensor | None = None, reverse: bool = False
) -> tuple[Tensor, Tensor]:
    """h_t = a_t * h_{t-1} + b_t, channel by channel (arXiv 2410.01201, section 2.3).

    Args:
        a, b: coefficients, (B, T, H), float32, float64, bfloat16 or float16.
        h0: the state before the first step, (B, H). Zeros by default.
        reset: (B, T) bool; where it is true, the state is zeroed before step t. None by default.
        reverse: walk from step T to step 1: h_t = a_t * h_{t+1} + b_t; h_last is then the state at the first step.

    Returns:
        h (B, T, H) and h_last (B, H), as from `mingru`.

    Raises:
        TypeError, ValueError: as `mingru`.

    Example:
        >>> h, _ = linear_recurrence(torch.full((1, 4, 1), 0.5), torch.ones(1, 4, 1))
        >>> h.flatten().tolist()
        [1.0, 1.5, 1.75, 1.875]
    """
    _check({"a": a, "b": b}, h0, reset, "identity")
    return walk("linear", torch.cat([a, b], dim=-1), h0, reset, reverse=reverse)


_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def _check(inputs: dict[str, Tensor], h0: Tensor | None, reset: Tensor | None, activation: str) -> None:
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; expected one of {', '.join(map(repr, ACTIVATIONS))}")
    for name, value in {**inputs, "h0": h0, "reset": reset}.items():
        if not (isinstance(value, Tensor) or (value is None and name in ("h0", "reset"))):
            raise TypeError(f"{name} is a {type(value).__name__}; expected a Tensor: call torch.as_tensor on it")
    (first_name, first), *others = inputs.items()
    if first.dim() != 3:
        raise ValueError(f"{first_name} has shape {tuple(first.shape)}; expected (B, T, H)")
    if first.dtype not in _DTYPES:
        allowed = ", ".join(str(dtype).removeprefix("torch.") for dtype in _DTYPES)
        raise TypeError(f"{first_name} has dtype {first.dtype}; expected one of {allowed}: call .float() on it")
    for name, tensor in others:
        if tensor.shape != first.shape:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}; "
                f"expected that of {first_name}, (B, T, H) = {tuple(first.shape)}"
            )
        if tensor.dtype != first.dtype:
            raise TypeError(f"{name} has dtype {tensor.dtype}; expected that of {first_name}, {first.dtype}")
        _check_device(name, tensor, first_name, first)
    B, T, H = first.shape
    if h0 is not None:
        if h0.shape != (B, H):
            raise ValueError(f"h0 has shape {tuple(h0.shape)}; expected (B, H) = {(B, H)}")
        if not h0.is_floating_point():
            raise TypeError(f"h0 has dtype {h0.dtype}; expected a floating dtype: call .float() on it")
        _check_device("h0", h0, first_name, first)
    if reset is not None:
        if reset.shape != (B, T):
            raise ValueError(f"reset has shape {tuple(reset.shape)}; expected (B, T) = {(B, T)}")
        if reset.dtype != torch.bool:
            raise TypeError(f"reset has dtype {reset.dtype}; expected torch.bool: call .bool() on it")
        _check_device("reset", reset, first_name, first)


def _check_device(name: str, tensor: Tensor, first_name: str, first: Tensor) -> None:
    if tensor.device != first.device:
        raise ValueError(f"{name} is on {tensor.device}; expected the device of {first_name}, {first.device}")
