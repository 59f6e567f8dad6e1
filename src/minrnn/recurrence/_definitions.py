"""What each recurrence *is*: one step in plain torch, and the loop over time. Every fast path must agree with this
file.

`x` holds the K inputs of a step, each (B, H). All recurrences here are affine in the state, h_t = a_t * h_{t-1} +
b_t, so each also
says its coefficients (a, b), which is what parallel scans need, and their logarithms, for the paper's log-space form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[Tensor, Tensor]


def positive(x: Tensor) -> Tensor:
    """g(x) = x + 0.5 for x >= 0, else sigmoid(x): the positive candidate of the log-space form (arXiv 2410.01201,
    Appendix B.2.1).
    """
    return torch.where(x >= 0, x + 0.5, torch.sigmoid(x))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"identity": lambda x: x, "g": positive, "tanh": torch.tanh}


def log_positive(x: Tensor) -> Tensor:
    """log g(x); the inner `where` keeps the branch that is not taken from producing a NaN gradient."""
    return torch.where(x >= 0, (torch.where(x >= 0, x, 0) + 0.5).log(), -F.softplus(-x))


LOG_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": torch.log,
    "g": log_positive,
    "tanh": lambda x: x.tanh().log(),
}


@dataclass(frozen=True)
class Recurrence:
    """One channelwise recurrence: `inputs` (K) pre-activations a step, and the three ways to write it."""

    name: str
    inputs: int
    step: Callable[..., Tensor]  # (h, *x) -> h
    coefficients: Callable[..., Pair]  # (*x) -> a, b
    log_coefficients: Callable[..., Pair]  # (*x) -> log a, log b


def _mingru(activation: str) -> Recurrence:
    activate, log_activate = ACTIVATIONS[activation], LOG_ACTIVATIONS[activation]

    def step(h: Tensor, gate: Tensor, candidate: Tensor) -> Tensor:
        z = torch.sigmoid(gate)
        return torch.lerp(h, activate(candidate), z)  # (1 - z) * h + z * act(candidate)

    def coefficients(gate: Tensor, candidate: Tensor) -> Pair:
        return torch.sigmoid(-gate), torch.sigmoid(gate) * activate(candidate)

    def log_coefficients(gate: Tensor, candidate: Tensor) -> Pair:
        return -F.softplus(gate), -F.softplus(-gate) + log_activate(candidate)

    return Recurrence(f"mingru/{activation}", 2, step, coefficients, log_coefficients)


def _minlstm(activation: str) -> Recurrence:
    """Normalised gates, f' = f / (f + i) and i' = i / (f + i) (arXiv 2410.01201, section 3.2.3)."""
    activate, log_activate = ACTIVATIONS[activation], LOG_ACTIVATIONS[activation]

    def difference(forget: Tensor, input: Tensor) -> Tensor:
        # f' = sigmoid(difference): the quotient itself is 0 / 0 where both gates underflow.
        return F.softplus(-input) - F.softplus(-forget)

    def step(h: Tensor, forget: Tensor, input: Tensor, candidate: Tensor) -> Tensor:
        f = torch.sigmoid(difference(forget, input))
        i = torch.sigmoid(-difference(forget, input))
        return f * h + i * activate(candidate)

    def coefficients(forget: Tensor, input: Tensor, candidate: Tensor) -> Pair:
        d = difference(forget, input)
        return torch.sigmoid(d), torch.sigmoid(-d) * activate(candidate)

    def log_coefficients(forget: Tensor, input: Tensor, candidate: Tensor) -> Pair:
        d = difference(forget, input)
        return -F.softplus(-d), -F.softplus(d) + log_activate(candidate)

    return Recurrence(f"minlstm/{activation}", 3, step, coefficients, log_coefficients)


def _minlstm_unnormalized(activation: str) -> Recurrence:
    """The default of the authors' released code: f and i as they are, so the scale of h depends on the length."""
    activate, log_activate = ACTIVATIONS[activation], LOG_ACTIVATIONS[activation]

    def step(h: Tensor, forget: Tensor, input: Tensor, candidate: Tensor) -> Tensor:
        return torch.sigmoid(forget) * h + torch.sigmoid(input) * activate(candidate)

    def coefficients(forget: Tensor, input: Tensor, candidate: Tensor) -> Pair:
        return torch.sigmoid(forget), torch.sigmoid(input) * activate(candidate)

    def log_coefficients(forget: Tensor, input: Tensor, candidate: Tensor) -> Pair:
        return -F.softplus(-forget), -F.softplus(-input) + log_activate(candidate)

    return Recurrence(f"minlstm_unnormalized/{activation}", 3, step, coefficients, log_coefficients)


LINEAR = Recurrence(
    "linear",
    2,
    step=lambda h, a, b: a * h + b,
    coefficients=lambda a, b: (a, b),
    log_coefficients=lambda a, b: (a.log(), b.log()),
)

RECURRENCES: dict[str, Recurrence] = {
    r.name: r for r in [LINEAR, *(make(a) for make in (_mingru, _minlstm, _minlstm_unnormalized) for a in ACTIVATIONS)]
}


def definition(
    recurrence: Recurrence,
    inputs: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    reverse: bool,
    there: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The loop. inputs (B, T, K*H), h0 (B, H), reset (B, T) bool -> h (B, T, H), h_last (B, H).

    `there` (B, T) bool says which steps are part of their sequence, all by default: elsewhere the state stays and h is
    zero. The state is float32, or float64 for float64 inputs, whatever the inputs are; h is returned in the dtype of
    the inputs.
    """
    B, T, KH = inputs.shape
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    h = inputs.new_zeros(B, KH // recurrence.inputs, dtype=dtype) if h0 is None else h0.to(dtype)
    states = [h] * T
    x = inputs.to(dtype).unbind(1)  # an index at every step would have a gradient as large as all inputs each time
    for t in reversed(range(T)) if reverse else range(T):
        before = h if reset is None else torch.where(reset[:, t, None], 0, h)  # (B, H)
        now = recurrence.step(before, *x[t].chunk(recurrence.inputs, dim=-1))
        h = now if there is None else torch.where(there[:, t, None], now, h)
        states[t] = now if there is None else torch.where(there[:, t, None], now, 0)
    out = torch.stack(states, dim=1) if T else inputs[..., : h.shape[-1]]  # (B, T, H)
    return out.to(inputs.dtype), h


def single_step(recurrence: Recurrence, inputs: Tensor, h0: Tensor | None) -> tuple[Tensor, Tensor]:
    """The loop for T = 1. inputs (B, 1, K*H), h0 (B, H) -> h (B, 1, H), h_last (B, H)."""
    x = inputs[:, 0]
    dtype = torch.promote_types(x.dtype, torch.float32)
    if h0 is None:
        h0 = x.new_zeros(x.shape[0], x.shape[-1] // recurrence.inputs, dtype=dtype)
    h = recurrence.step(_as(h0, dtype), *_as(x, dtype).chunk(recurrence.inputs, dim=-1))
    return _as(h, x.dtype)[:, None], h


def _as(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x if x.dtype == dtype else x.to(dtype)
