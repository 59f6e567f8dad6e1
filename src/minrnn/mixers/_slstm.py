from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..fused import BlockLinear, Linear, causal_conv, linear
from ..recurrence import slstm_scan
from ._contract import Mixer, check_sequence, check_state, exempt_from_weight_decay
from ._minimal import fresh, unit_variance


class SLSTMState(NamedTuple):
    """What an sLSTM carries; c and n are scaled by e^{-m}, and n is 0 before the first step of a sequence."""

    h: Tensor  # (B, D), float32 or float64, as are c, n and m
    c: Tensor  # (B, D)
    n: Tensor  # (B, D)
    m: Tensor  # (B, D)
    window: Tensor  # the last conv - 1 inputs of the convolution, (B, conv - 1, D)


class SLSTMMixer(Mixer):
    """sLSTM, the xLSTM with exponential gates whose state mixes within heads (arXiv 2405.04517, equations 8 to 18).

    s = SiLU(Conv(x)); (i, f) = W s + R h_{t-1} + b; (z, o) = W x + R h_{t-1} + b;
    m_t = max(log sigmoid(f) + m_{t-1}, i); f' = exp(log sigmoid(f) + m_{t-1} - m_t), i' = exp(i - m_t);
    c_t = f' c_{t-1} + i' tanh(z); n_t = f' n_{t-1} + i'; h_t = sigmoid(o) c_t / n_t; y = W_down Norm(h), Norm by head

    W and R are block-diagonal by head, R starts at zero. m keeps the exponentials in range and cancels out of h, so no
    gradient goes through it. The source has no W_down, but a gated MLP; here the MLP of a `Block` follows.

    Args:
        width: D.
        layer, num_layers: where it stands; the forget bias starts by it. Default the only layer.
        heads: D must be a multiple. Default 4.
        conv: steps that the convolution sees. Default 4.
    """

    def __init__(self, width: int, *, layer: int = 0, num_layers: int = 1, heads: int = 4, conv: int = 4) -> None:
        super().__init__()
        if not 0 <= layer < num_layers:
            raise ValueError(f"layer is {layer}; expected 0 <= layer < num_layers = {num_layers}")
        if heads < 1 or width % heads:
            raise ValueError(f"heads is {heads}; expected a divisor of the width {width}")
        if conv < 1:
            raise ValueError(f"conv is {conv}; expected 1 step or more")
        self.width, self.heads = width, heads
        d = width // heads
        bound = conv**-0.5
        self.conv_weight = nn.Parameter(torch.empty(width, conv).uniform_(-bound, bound))
        self.conv_bias = nn.Parameter(torch.zeros(width))
        self.input_forget = BlockLinear(width, matrices=2, heads=heads)  # W and b of i and f
        self.cell_output = BlockLinear(width, matrices=2, heads=heads)  # of z and o
        self.recurrent = nn.Parameter(torch.zeros(heads, d, 4 * d))  # R, to [i | f | z | o]
        self.norm_weight = nn.Parameter(torch.ones(width))
        self.down = Linear(width, width)
        unit_variance(self.down)
        nn.init.zeros_(self.down.bias)
        with torch.no_grad():
            for part in (self.input_forget, self.cell_output):
                part.weight.normal_(std=(2 / (5 * width)) ** 0.5)
            # Forget biases fall from 5 to -7 over a head, later in upper layers, as in the authors' code.
            depth = layer / (num_layers - 1) if num_layers > 1 else 0.0
            place = torch.arange(d) / max(d - 1, 1)
            assert self.input_forget.bias is not None
            self.input_forget.bias[width:] = (5 - 12 * place ** (0.3 + 1.3 * depth)).repeat(heads)
        exempt_from_weight_decay(self.conv_weight, self.conv_bias, self.norm_weight, self.down.bias)
        exempt_from_weight_decay(self.input_forget.bias, self.cell_output.bias, self.recurrent)

    def forward(
        self, x: Tensor, state: SLSTMState | None = None, *, reset: Tensor | None = None
    ) -> tuple[Tensor, SLSTMState]:
        check_sequence(x, self.width, reset)
        (B, T, D), W = x.shape, self.conv_weight.shape[1]
        part = {"B": B, "D": D}
        check_state(state, SLSTMState, h=part, c=part, n=part, m=part, window={"B": B, "conv - 1": W - 1, "D": D})
        state = self.initial_state(B) if state is None else state
        conv, window = causal_conv(x, self.conv_weight, self.conv_bias, state.window.to(x.dtype), reset)
        logits = self.input_forget(F.silu(conv)), self.cell_output(x)
        stacked = torch.stack(state[:4], dim=1)
        h, last = slstm_scan(*logits, self.recurrent.to(stacked.dtype), stacked, reset)
        h_last, c, n, m = last.unbind(dim=1)
        normed = F.layer_norm(h.view(B, T, self.heads, D // self.heads), (D // self.heads,)).view(B, T, D)
        # The weight of the norm scales columns of W_down: that is smaller than h.
        y = linear(normed, self.down.weight * self.norm_weight, self.down.bias)
        return y, SLSTMState(h_last, c, n, m, window)

    def initial_state(self, batch_size: int) -> SLSTMState:
        h = fresh(self.down.weight, batch_size, self.width)
        window = self.down.weight.new_zeros(batch_size, self.conv_weight.shape[1] - 1, self.width)
        return SLSTMState(h, torch.zeros_like(h), torch.zeros_like(h), torch.zeros_like(h), window)
