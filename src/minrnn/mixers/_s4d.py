from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..fused import Linear, gated, gelu_dropout
from ..recurrence import diagonal_scan
from ._contract import Mixer, check_sequence, check_state, exempt_from_weight_decay
from ._minimal import fresh, unit_variance

SPECTRA = ("lin", "inv")


class S4DState(NamedTuple):
    """What an S4D carries."""

    s: Tensor  # (B, N, D), real parts before imaginary ones, float32 or float64


class S4DMixer(Mixer):
    """S4D, a diagonal state space (arXiv 2206.11893). It is not S4: there is no low-rank part and no HiPPO matrix, and
    the paper measures it near S4, not at it.

    A_n = -exp(a_n) + i w_n, n < N / 2; Abar = exp(Delta A); Cbar = C (Abar - 1) / A (zero-order hold);
    s_t = Abar s_{t-1} + u_t, v_t = 2 Re sum_n Cbar_n s_{t,n} + D u_t for each channel by itself;
    y = GLU(W_down GELU(v))

    Args:
        width: D.
        state: N, real numbers in the state of a channel: N / 2 complex ones stand for conjugate pairs. Default 64.
        spectrum: of A at the start: "lin", A_n = -1/2 + i pi n (default), or "inv", -1/2 + i N/pi (N / (2n + 1) - 1).
        dt_min, dt_max: Delta is log-uniform between them at the start. Default 0.001 and 0.1.
    """

    def __init__(
        self,
        width: int,
        *,
        state: int = 64,
        spectrum: str = "lin",
        dt_min: float = 1e-3,
        dt_max: float = 1e-1,
    ) -> None:
        super().__init__()
        if state < 2 or state % 2:
            raise ValueError(f"state is {state}; expected an even number, 2 or more")
        if spectrum not in SPECTRA:
            raise ValueError(f"spectrum is {spectrum!r}; expected one of {', '.join(map(repr, SPECTRA))}")
        if not 0 < dt_min <= dt_max:
            raise ValueError(f"dt_min and dt_max are {dt_min} and {dt_max}; expected 0 < dt_min <= dt_max")
        self.width, self.state = width, state
        n = torch.arange(state // 2)
        speeds = math.pi * n if spectrum == "lin" else state / math.pi * (state / (2 * n + 1) - 1)
        self.log_dt = nn.Parameter(torch.empty(width).uniform_(math.log(dt_min), math.log(dt_max)))
        self.A_log = nn.Parameter(torch.full((state // 2, width), math.log(0.5)))  # a
        self.A_imag = nn.Parameter(speeds[:, None].repeat(1, width).to(self.log_dt.dtype))  # w
        self.C = nn.Parameter(torch.randn(2, state // 2, width) * 0.5**0.5)  # real and imaginary part
        self.D = nn.Parameter(torch.randn(width))
        self.down = Linear(width, 2 * width)  # [value | gate]
        unit_variance(self.down)
        nn.init.zeros_(self.down.bias)
        exempt_from_weight_decay(self.log_dt, self.A_log, self.A_imag, self.C, self.D, self.down.bias)

    def forward(
        self, x: Tensor, state: S4DState | None = None, *, reset: Tensor | None = None
    ) -> tuple[Tensor, S4DState]:
        check_sequence(x, self.width, reset)
        check_state(state, S4DState, s={"B": len(x), "N": self.state, "D": self.width})
        s = (self.initial_state(len(x)) if state is None else state).s
        log_dt, a, w, C_parts, D = (p.to(s.dtype) for p in (self.log_dt, self.A_log, self.A_imag, self.C, self.D))
        A = torch.complex(-a.exp(), w)
        step = torch.exp(log_dt.exp() * A)
        C = 2 * torch.complex(*C_parts) * (step - 1) / A
        a_bar, c_bar = (torch.cat([z.real, z.imag]) for z in (step, C))
        v, s = diagonal_scan(x, a_bar, c_bar, D, s, reset)
        value, gate = self.down(gelu_dropout(v)).chunk(2, dim=-1)
        return gated(value, gate, "sigmoid"), S4DState(s)

    def initial_state(self, batch_size: int) -> S4DState:
        return S4DState(fresh(self.down.weight, batch_size, self.state, self.width))

    @torch.no_grad()
    def scale_output(self, gain: float) -> None:
        self.down.weight[: self.width] *= gain
