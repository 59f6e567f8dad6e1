"""What each recurrence *is*: one step in plain torch, and the loop over time. Every fast path must agree with this
file.

A step is `step(s, x, p) -> s, y`: the S states before it, the K inputs (each (B, H)) and the P parameters of each
channel, (H,), give the states after it and the outputs, none where the states themselves are the output. Recurrences
that are affine in one state, h_t = a_t * h_{t-1} + b_t, also say their coefficients (a, b), which is what parallel
scans need, and some of them their logarithms, for the paper's log-space form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Pair = tuple[Tensor, Tensor]
Many = tuple[Tensor, ...]


def positive(x: Tensor) -> Tensor:
    """g(x) = x + 0.5 for x >= 0, else sigmoid(x): the positive candidate of the log-space form (arXiv 2410.01201,
    Appendix B.2.1).
    """
    return torch.where(x >= 0, x + 0.5, torch.sigmoid(x))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"identity": lambda x: x, "g": positive, "tanh": torch.tanh}
"""Of candidates; those that minGRU and minLSTM offer."""


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
    """One channelwise recurrence: `inputs` (K) stacked pre-activations a step, and the ways to write it."""

    name: str
    inputs: int
    step: Callable[[Many, Many, Many], tuple[Many, Many]]  # s, x, p -> s, y
    coefficients: Callable[..., Pair] | None = None  # (*x) -> a, b
    log_coefficients: Callable[..., Pair] | None = None  # (*x) -> log a, log b
    states: int = 1  # S
    outputs: int = 0  # M; 0: the states are the output
    parameters: int = 0  # P
    extras: int = 0  # inputs that are not stacked, 0 or 1; they follow those that are

    @property
    def width(self) -> int:
        """Vectors of H channels in a row of the output."""
        return self.outputs or self.states


def _affine(name: str, inputs: int, coefficients: Callable[..., Pair], logs: Callable[..., Pair] | None) -> Recurrence:
    def step(s: Many, x: Many, p: Many) -> tuple[Many, Many]:
        a, b = coefficients(*x)
        return (a * s[0] + b,), ()

    return Recurrence(name, inputs, step, coefficients, logs)


def _mingru(activation: str) -> Recurrence:
    activate, log_activate = ACTIVATIONS[activation], LOG_ACTIVATIONS[activation]

    def step(s: Many, x: Many, p: Many) -> tuple[Many, Many]:
        gate, candidate = x
        z = torch.sigmoid(gate)
        return (torch.lerp(s[0], activate(candidate), z),), ()  # (1 - z) * h + z * act(candidate)

    def coefficients(gate: Tensor, candidate: Tensor) -> Pair:
        return torch.sigmoid(-gate), torch.sigmoid(gate) * activate(candidate)

    def log_coefficients(gate: Tensor, candidate: Tensor) -> Pair:
        return -F.softplus(gate), -F.softplus(-gate) + log_activate(candidate)

    return Recurrence(f"mingru/{activation}", 2, step, coefficients, log_coefficients)


def _forget(activation: str) -> Recurrence:
    """minGRU whose gate says what stays: h_t = f_t * h_{t-1} + (1 - f_t) * c_t."""
    mingru = _mingru(activation)
    assert mingru.coefficients is not None and mingru.log_coefficients is not None
    plain, logs = mingru.coefficients, mingru.log_coefficients

    def coefficients(gate: Tensor, candidate: Tensor) -> Pair:
        return plain(-gate, candidate)

    def log_coefficients(gate: Tensor, candidate: Tensor) -> Pair:
        return logs(-gate, candidate)

    return _affine(f"forget/{activation}", 2, coefficients, log_coefficients)


def _minlstm(activation: str) -> Recurrence:
    """Normalised gates, f' = f / (f + i) and i' = i / (f + i) (arXiv 2410.01201, section 3.2.3)."""
    activate, log_activate = ACTIVATIONS[activation], LOG_ACTIVATIONS[activation]

    def difference(forget: Tensor, input: Tensor) -> Tensor:
        # f' = sigmoid(difference): the quotient itself is 0 / 0 where both gates underflow.
        return F.softplus(-input) - F.softplus(-forget)

    def coefficients(forget: Tensor, input: Tensor, candidate: Tensor) -> Pair:
        d = difference(forget, input)
        return torch.sigmoid(d), torch.sigmoid(-d) * activate(candidate)

    def log_coefficients(forget: Tensor, input: Tensor, candidate: Tensor) -> Pair:
        d = difference(forget, input)
        return -F.softplus(-d), -F.softplus(d) + log_activate(candidate)

    return _affine(f"minlstm/{activation}", 3, coefficients, log_coefficients)


def _minlstm_unnormalized(activation: str) -> Recurrence:
    """The default of the authors' released code: f and i as they are, so the scale of h depends on the length."""
    activate, log_activate = ACTIVATIONS[activation], LOG_ACTIVATIONS[activation]

    def coefficients(forget: Tensor, input: Tensor, candidate: Tensor) -> Pair:
        return torch.sigmoid(forget), torch.sigmoid(input) * activate(candidate)

    def log_coefficients(forget: Tensor, input: Tensor, candidate: Tensor) -> Pair:
        return -F.softplus(-forget), -F.softplus(-input) + log_activate(candidate)

    return _affine(f"minlstm_unnormalized/{activation}", 3, coefficients, log_coefficients)


def _signed(key: Tensor, input: Tensor, candidate: Tensor) -> Pair:
    """h_t = tanh(k_t) * h_{t-1} + sigmoid(i_t) * c_t: the transition may be negative (arXiv 2411.12537)."""
    return torch.tanh(key), torch.sigmoid(input) * candidate


def _nonlinear(s: Many, x: Many, p: Many) -> tuple[Many, Many]:
    """h enters the gate and the candidate of its own channel."""
    (h,), (gate, candidate), (u_z, u_c) = s, x, p
    z, c = torch.sigmoid(gate + u_z * h), torch.tanh(candidate + u_c * h)
    return (torch.lerp(h, c, z),), ()


def _qrnn_fo(s: Many, x: Many, p: Many) -> tuple[Many, Many]:
    """QRNN, fo-pooling (arXiv 1611.01576, equation 4)."""
    (c,), (forget, output, candidate) = s, x
    c = torch.lerp(c, torch.tanh(candidate), torch.sigmoid(-forget))
    return (c,), (torch.sigmoid(output) * c,)


def _qrnn_ifo(s: Many, x: Many, p: Many) -> tuple[Many, Many]:
    """QRNN, ifo-pooling (arXiv 1611.01576, equation 5)."""
    (c,), (forget, input, output, candidate) = s, x
    c = torch.sigmoid(forget) * c + torch.sigmoid(input) * torch.tanh(candidate)
    return (c,), (torch.sigmoid(output) * c,)


def _sru(g: Callable[[Tensor], Tensor]) -> Callable[[Many, Many, Many], tuple[Many, Many]]:
    """SRU (arXiv 1709.02755, equations 1 to 4); version 1 has v_f = v_r = 0 and alpha = 1."""

    def step(s: Many, x: Many, p: Many) -> tuple[Many, Many]:
        (c,), (forget, reset, candidate, skip), (v_f, v_r, alpha) = s, x, p
        f, r = torch.sigmoid(forget + v_f * c), torch.sigmoid(reset + v_r * c)
        c = f * c + (1 - f) * candidate
        return (c,), (r * g(c) + (1 - r) * alpha * skip,)

    return step


def _rglru(s: Many, x: Many, p: Many) -> tuple[Many, Many]:
    """RG-LRU (arXiv 2402.19427, equations 1 to 4), p = 8 softplus(Lambda); the second state is 0 before the first step
    of a sequence, whose input is not scaled.
    """
    (h, seen), (reset, input, value), (rate,) = s, x, p
    log_a = -rate * torch.sigmoid(reset)
    first = seen == 0
    scale = torch.where(first, 1, torch.where(first, 1, -torch.expm1(2 * log_a)).sqrt())
    h = log_a.exp() * h + scale * torch.sigmoid(input) * value
    return (h, torch.ones_like(seen)), (h,)


def _hgrn(s: Many, x: Many, p: Many) -> tuple[Many, Many]:
    """HGRN on a real state (arXiv 2311.04823, equations 3 to 5), gamma the least that a gate keeps."""
    (h,), (forget, candidate), (gamma,) = s, x, p
    f = gamma + (1 - gamma) * torch.sigmoid(forget)
    return (f * h + (1 - f) * F.silu(candidate),), ()


def _hgrn_complex(s: Many, x: Many, p: Many) -> tuple[Many, Many]:
    """HGRN: the state is complex and turns by theta at each step."""
    (re, im), (forget, c_re, c_im), (gamma, cos, sin) = s, x, p
    f = gamma + (1 - gamma) * torch.sigmoid(forget)
    turned_re, turned_im = cos * re - sin * im, sin * re + cos * im
    return (f * turned_re + (1 - f) * F.silu(c_re), f * turned_im + (1 - f) * F.silu(c_im)), ()


def _rwkv4(s: Many, x: Many, p: Many) -> tuple[Many, Many]:
    """WKV of RWKV-4 (arXiv 2305.13048, equation 16 and appendix D), times sigmoid(r). The states are sums of values
    and of weights as multiples of e^m, and m, which means minus infinity while the weights are 0.
    """
    (a, b, m), (receptance, key, value), (decay, bonus) = s, x, p
    m = torch.where(b > 0, m, -1e38)
    top = torch.maximum(m, bonus + key)
    of_state, of_input = (m - top).exp(), (bonus + key - top).exp()
    wkv = (of_state * a + of_input * value) / (of_state * b + of_input)
    top = torch.maximum(m - decay, key)
    of_state, of_input = (m - decay - top).exp(), (key - top).exp()
    return (of_state * a + of_input * value, of_state * b + of_input, top), (torch.sigmoid(receptance) * wkv,)


RECURRENCES: dict[str, Recurrence] = {
    r.name: r
    for r in [
        _affine("linear", 2, lambda a, b: (a, b), lambda a, b: (a.log(), b.log())),
        *(make(a) for make in (_mingru, _minlstm, _minlstm_unnormalized, _forget) for a in ACTIVATIONS),
        _affine("signed", 3, _signed, None),
        Recurrence("nonlinear", 2, _nonlinear, parameters=2),
        Recurrence("qrnn_fo/tanh", 3, _qrnn_fo, outputs=1),
        Recurrence("qrnn_ifo/tanh", 4, _qrnn_ifo, outputs=1),
        Recurrence("sru", 3, _sru(lambda c: c), outputs=1, parameters=3, extras=1),
        Recurrence("sru_tanh", 3, _sru(torch.tanh), outputs=1, parameters=3, extras=1),
        Recurrence("rglru", 2, _rglru, states=2, outputs=1, parameters=1, extras=1),
        Recurrence("hgrn/silu", 2, _hgrn, parameters=1),
        Recurrence("hgrn_complex", 3, _hgrn_complex, states=2, parameters=3),
        Recurrence("rwkv4", 3, _rwkv4, states=3, outputs=1, parameters=2),
    ]
}

AFFINE: list[str] = [name for name, r in RECURRENCES.items() if r.coefficients]
"""Those that `walk` serves: every implementation has them, in every layout."""


def definition(
    recurrence: Recurrence,
    inputs: Tensor,
    h0: Tensor | None,
    reset: Tensor | None,
    reverse: bool,
    there: Tensor | None = None,
    extra: Tensor | None = None,
    parameters: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The loop. inputs (B, T, K*H), h0 (B, S*H), reset (B, T) bool, extra (B, T, H), parameters (P, H) -> the output
    (B, T, M*H) or the states (B, T, S*H), and the last states (B, S*H).

    `there` (B, T) bool says which steps are part of their sequence, all by default: elsewhere the state stays and the
    output is zero. States are float32, or float64 for float64 inputs, whatever the inputs are; the output is returned
    in the dtype of the inputs.
    """
    B, T, KH = inputs.shape
    H, S = KH // recurrence.inputs, recurrence.states
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    h = inputs.new_zeros(B, S * H, dtype=dtype) if h0 is None else h0.to(dtype)
    p = () if parameters is None else parameters.to(dtype).unbind(0)
    rows = [h.new_zeros(B, recurrence.width * H)] * T
    x = inputs.to(dtype).unbind(1)  # an index at every step would have a gradient as large as all inputs each time
    extras = [() if extra is None else (e,) for e in (x if extra is None else extra.to(dtype).unbind(1))]
    for t in reversed(range(T)) if reverse else range(T):
        before = h if reset is None else torch.where(reset[:, t, None], 0, h)  # (B, S*H)
        states, outputs = recurrence.step(before.chunk(S, -1), (*x[t].chunk(recurrence.inputs, -1), *extras[t]), p)
        now = _joined(states)
        row = _joined(outputs) if outputs else now
        h = now if there is None else torch.where(there[:, t, None], now, h)
        rows[t] = row if there is None else torch.where(there[:, t, None], row, 0)
    out = torch.stack(rows, dim=1) if T else inputs[..., : recurrence.width * H]
    return out.to(inputs.dtype), h


def single_step(
    recurrence: Recurrence,
    inputs: Tensor,
    h0: Tensor | None,
    extra: Tensor | None = None,
    parameters: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The loop for T = 1, without what a loop needs."""
    x = inputs[:, 0]
    dtype = torch.promote_types(x.dtype, torch.float32)
    if h0 is None:
        h0 = x.new_zeros(x.shape[0], recurrence.states * x.shape[-1] // recurrence.inputs, dtype=dtype)
    stacked = _as(x, dtype).chunk(recurrence.inputs, dim=-1)
    extras = () if extra is None else (_as(extra[:, 0], dtype),)
    p = () if parameters is None else _as(parameters, dtype).unbind(0)
    states, outputs = recurrence.step(_as(h0, dtype).chunk(recurrence.states, -1), (*stacked, *extras), p)
    h = _joined(states)
    return _as(_joined(outputs) if outputs else h, x.dtype)[:, None], h


def _joined(vectors: Many) -> Tensor:
    return vectors[0] if len(vectors) == 1 else torch.cat(vectors, dim=-1)


def _as(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x if x.dtype == dtype else x.to(dtype)
