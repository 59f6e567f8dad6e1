from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..fused import Linear
from ..recurrence import channelwise
from ._contract import Mixer, RecurrentState, check_sequence, check_state, exempt_from_weight_decay
from ._minimal import expanded, fresh, unit_variance

_RECURRENCES = {"identity": "sru", "tanh": "sru_tanh"}


class SRUMixer(Mixer):
    """Simple recurrent unit (arXiv 1709.02755), in its two versions.

    1 (first version of the paper, section 2): f = sigmoid(W_f x + b_f); r = sigmoid(W_r x + b_r);
       c_t = f c_{t-1} + (1 - f) W x; h_t = r g(c_t) + (1 - r) x
    2 (equations 1 to 4): f = sigmoid(W_f x + v_f c_{t-1} + b_f); r = sigmoid(W_r x + v_r c_{t-1} + b_r);
       c_t as before; h_t = r g(c_t) + (1 - r) alpha x with alpha = sqrt(1 + 2 e^{b_r}) at the start
    y = W_down h, which the source has not: its layers end with h.

    Args:
        width: D.
        expansion: hidden width H = round(expansion * D); where it is not D, x is mapped to H for the highway too.
            Default 1.
        version: 1 or 2 (default).
        activation: g, "identity" (default) or "tanh".
        highway_bias: b_r at the start. Default 0; the paper uses -3 for deep stacks.
        rescale: scale the highway by alpha in version 2. Default True.
    """

    alpha: Tensor

    def __init__(
        self,
        width: int,
        *,
        expansion: float = 1.0,
        version: int = 2,
        activation: str = "identity",
        highway_bias: float = 0.0,
        rescale: bool = True,
    ) -> None:
        if version not in (1, 2):
            raise ValueError(f"version is {version}; expected 1 or 2")
        if activation not in _RECURRENCES:
            raise ValueError(f"activation is {activation!r}; expected one of {', '.join(map(repr, _RECURRENCES))}")
        super().__init__()
        self.width, self.hidden_size, self.version = width, expanded(width, expansion), version
        self.recurrence = _RECURRENCES[activation]
        H = self.hidden_size
        maps = 3 if width == H else 4
        self.projection = Linear(width, maps * H)  # [forget | reset | candidate | highway]
        self.recurrent = nn.Parameter(torch.empty(2, H)) if version == 2 else None  # v_f, v_r
        alpha = math.sqrt(1 + 2 * math.exp(highway_bias)) if rescale and version == 2 else 1.0
        self.register_buffer("alpha", torch.full((1, H), alpha))
        self.down = Linear(H, width)
        self._initialise(highway_bias)
        exempt_from_weight_decay(self.projection.bias, self.recurrent, self.down.bias)

    @torch.no_grad()
    def _initialise(self, highway_bias: float) -> None:
        """As the authors' code: candidates of unit variance, gates of half that."""
        H, bound = self.hidden_size, math.sqrt(3 / self.width)
        self.projection.weight.uniform_(-bound, bound)
        self.projection.bias.zero_()
        if self.version == 2:
            self.projection.weight[: 2 * H] *= math.sqrt(0.5)
        self.projection.bias[H : 2 * H] = highway_bias
        if self.recurrent is not None:
            self.recurrent.uniform_(-math.sqrt(1.5), math.sqrt(1.5))
        unit_variance(self.down)

    def forward(
        self, x: Tensor, state: RecurrentState | None = None, *, reset: Tensor | None = None
    ) -> tuple[Tensor, RecurrentState]:
        check_sequence(x, self.width, reset)
        H = self.hidden_size
        check_state(state, RecurrentState, h={"B": len(x), "H": H})
        projected = self.projection(x)
        skip = x if self.width == H else projected[..., 3 * H :]
        recurrent = self.alpha.new_zeros(2, H) if self.recurrent is None else self.recurrent
        h, c = channelwise(
            self.recurrence,
            projected[..., : 3 * H],
            None if state is None else state.h,
            reset,
            extra=skip,
            parameters=torch.cat([recurrent, self.alpha.to(recurrent.dtype)]),
        )
        return self.down(h), RecurrentState(c)

    def initial_state(self, batch_size: int) -> RecurrentState:
        return RecurrentState(fresh(self.down.weight, batch_size, self.hidden_size))
