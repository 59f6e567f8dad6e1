from __future__ import annotations

import torch
from torch import Tensor, nn

from ..fused import Linear
from ..recurrence import channelwise
from ._contract import Mixer, RecurrentState, check_sequence, check_state, exempt_from_weight_decay
from ._minimal import expanded, fresh, unit_variance


class NonlinearMixer(Mixer):
    """minGRU whose state enters the gate and the candidate of its own channel: not a linear recurrence, and able to
    track state as one is not (a GRU, arXiv 1406.1078, with diagonal recurrent weights and no reset gate).

    z_t = sigmoid(W_z x_t + u_z h_{t-1}); c_t = tanh(W_c x_t + u_c h_{t-1}); h_t = (1 - z_t) h_{t-1} + z_t c_t;
    y = W_down h

    Args:
        width: D.
        expansion: hidden width H = round(expansion * D). Default 1.
        bias: add one to every projection. Default True.
    """

    def __init__(self, width: int, *, expansion: float = 1.0, bias: bool = True) -> None:
        super().__init__()
        self.width, self.hidden_size = width, expanded(width, expansion)
        H = self.hidden_size
        self.projection = Linear(width, 2 * H, bias=bias)
        self.recurrent = nn.Parameter(torch.randn(2, H))  # u_z, u_c: at this scale parity is learned at once
        self.down = Linear(H, width, bias=bias)
        for part in (self.projection, self.down):
            unit_variance(part)
        exempt_from_weight_decay(self.projection.weight, self.projection.bias, self.recurrent, self.down.bias)

    def forward(
        self, x: Tensor, state: RecurrentState | None = None, *, reset: Tensor | None = None
    ) -> tuple[Tensor, RecurrentState]:
        check_sequence(x, self.width, reset)
        check_state(state, RecurrentState, h={"B": len(x), "H": self.hidden_size})
        h_0 = None if state is None else state.h
        h, last = channelwise("nonlinear", self.projection(x), h_0, reset, parameters=self.recurrent)
        return self.down(h), RecurrentState(last)

    def initial_state(self, batch_size: int) -> RecurrentState:
        return RecurrentState(fresh(self.down.weight, batch_size, self.hidden_size))
