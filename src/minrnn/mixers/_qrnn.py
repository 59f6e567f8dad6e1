from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..fused import Linear, recent
from ..recurrence import channelwise, walk
from ._contract import Mixer, check_sequence, check_state, exempt_from_weight_decay
from ._minimal import expanded, fresh, unit_variance

_PROJECTIONS = {"f": 2, "fo": 3, "ifo": 4}


class QRNNState(NamedTuple):
    """What a QRNN carries."""

    c: Tensor  # (B, H), float32 or float64
    window: Tensor  # the last filter - 1 inputs, (B, filter - 1, D)


class QRNNMixer(Mixer):
    """Quasi-recurrent network (arXiv 1611.01576, section 2): a convolution over time, then a pooling of its channels.

    Z = tanh(W_z * X), F = sigmoid(W_f * X), O = sigmoid(W_o * X), I = sigmoid(W_i * X), * a causal convolution;
    "f":   h_t = f_t h_{t-1} + (1 - f_t) z_t                    (equation 3)
    "fo":  c_t = f_t c_{t-1} + (1 - f_t) z_t;  h_t = o_t c_t    (equation 4)
    "ifo": c_t = f_t c_{t-1} + i_t z_t;        h_t = o_t c_t    (equation 5)
    y = W_down h

    Args:
        width: D.
        expansion: hidden width H = round(expansion * D). Default 1.
        pooling: "f", "fo" (default) or "ifo".
        filter: steps that the convolution sees, itself included. Default 2, as in the paper's first layers.
        zoneout: probability, in training, that a channel keeps its state for a step: F = 1 - dropout(1 - F) without
            rescaling (section 2.1). Default 0.
        bias: add one to every projection. Default True.
    """

    def __init__(
        self,
        width: int,
        *,
        expansion: float = 1.0,
        pooling: str = "fo",
        filter: int = 2,
        zoneout: float = 0.0,
        bias: bool = True,
    ) -> None:
        if pooling not in _PROJECTIONS:
            raise ValueError(f"pooling is {pooling!r}; expected one of {', '.join(map(repr, _PROJECTIONS))}")
        if filter < 1:
            raise ValueError(f"filter is {filter}; expected 1 step or more")
        if not 0 <= zoneout < 1:
            raise ValueError(f"zoneout is {zoneout}; expected a probability, 0 <= zoneout < 1")
        super().__init__()
        self.width, self.hidden_size = width, expanded(width, expansion)
        self.pooling, self.filter, self.zoneout = pooling, filter, zoneout
        self.projection = Linear(filter * width, _PROJECTIONS[pooling] * self.hidden_size, bias=bias)
        self.down = Linear(self.hidden_size, width, bias=bias)
        for part in (self.projection, self.down):
            unit_variance(part)
        exempt_from_weight_decay(self.projection.weight, self.projection.bias, self.down.bias)

    def forward(
        self, x: Tensor, state: QRNNState | None = None, *, reset: Tensor | None = None
    ) -> tuple[Tensor, QRNNState]:
        check_sequence(x, self.width, reset)
        B, D, H = len(x), self.width, self.hidden_size
        check_state(state, QRNNState, c={"B": B, "H": H}, window={"B": B, "filter - 1": self.filter - 1, "D": D})
        c_0, window = (None, None) if state is None else state
        seen, window = recent(x, self.filter, window, reset)
        convolved = self.projection(torch.cat(seen, dim=-1) if self.filter > 1 else x)  # [forget | ... | candidate]
        if self.zoneout and self.training:
            convolved = _zoned_out(convolved, H, self.zoneout)
        if self.pooling == "f":
            h, c = walk("forget/tanh", convolved, c_0, reset)
        else:
            h, c = channelwise(f"qrnn_{self.pooling}/tanh", convolved, c_0, reset)
        return self.down(h), QRNNState(c, window)

    def initial_state(self, batch_size: int) -> QRNNState:
        weight = self.down.weight
        window = weight.new_zeros(batch_size, self.filter - 1, self.width)
        return QRNNState(fresh(weight, batch_size, self.hidden_size), window)


def _zoned_out(convolved: Tensor, H: int, p: float) -> Tensor:
    """Some forget gates, the first H channels, at exactly 1."""
    forget, rest = convolved[..., :H], convolved[..., H:]
    kept = torch.rand_like(forget, dtype=torch.float32) < p
    return torch.cat([forget.masked_fill(kept, torch.inf), rest], dim=-1)
