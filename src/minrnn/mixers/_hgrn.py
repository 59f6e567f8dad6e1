from __future__ import annotations

import torch
from torch import Tensor, nn

from ..fused import Linear, gated, rms_norm
from ..recurrence import channelwise
from ._contract import Mixer, RecurrentState, check_sequence, check_state, exempt_from_weight_decay
from ._minimal import expanded, fresh, unit_variance


class HGRNMixer(Mixer):
    """Hierarchically gated recurrent network (arXiv 2311.04823, section 3.2): what a gate keeps at least rises with
    the layer, so that upper layers remember longer.

    c_t = SiLU(W_c x), real and imaginary part; f_t = gamma + (1 - gamma) sigmoid(W_f x);
    h_t = f_t e^{i theta} h_{t-1} + (1 - f_t) c_t; y = W_down (RMSNorm(Re h, Im h) SiLU(W_g x))
    gamma = the sum of softmax(Gamma) over the layers below: 0 in the first.

    The source shares Gamma among all layers; here each has its own, of which it uses its row.

    Args:
        width: D.
        layer, num_layers: where it stands, for gamma. Default the only layer.
        expansion: hidden width H = round(expansion * D). Default 1.
        complex: states are complex (default), or real without theta.
    """

    def __init__(
        self, width: int, *, layer: int = 0, num_layers: int = 1, expansion: float = 1.0, complex: bool = True
    ) -> None:
        if not 0 <= layer < num_layers:
            raise ValueError(f"layer is {layer}; expected 0 <= layer < num_layers = {num_layers}")
        super().__init__()
        self.width, self.hidden_size, self.layer = width, expanded(width, expansion), layer
        H = self.hidden_size
        self.parts = 2 if complex else 1
        self.projection = Linear(width, (1 + self.parts) * H)  # [forget | candidate, or its two parts]
        self.gate = Linear(width, self.parts * H)
        self.bounds = nn.Parameter(torch.ones(num_layers, H))  # Gamma
        self.theta = nn.Parameter(10000.0 ** -(torch.arange(H) / H)) if complex else None
        self.norm = nn.Parameter(torch.ones(self.parts * H))
        self.down = Linear(self.parts * H, width)
        for part in (self.projection, self.gate, self.down):
            unit_variance(part)
            exempt_from_weight_decay(part.bias)
        exempt_from_weight_decay(self.projection.weight, self.bounds, self.theta, self.norm)

    def forward(
        self, x: Tensor, state: RecurrentState | None = None, *, reset: Tensor | None = None
    ) -> tuple[Tensor, RecurrentState]:
        check_sequence(x, self.width, reset)
        check_state(state, RecurrentState, h={"B": len(x), "S * H": self.parts * self.hidden_size})
        gamma = self.bounds.softmax(dim=0)[: self.layer].sum(dim=0)  # (H,)
        if self.theta is None:
            name, parameters = "hgrn/silu", gamma[None]
        else:
            name, parameters = "hgrn_complex", torch.stack([gamma, self.theta.cos(), self.theta.sin()])
        h_0 = None if state is None else state.h
        h, last = channelwise(name, self.projection(x), h_0, reset, parameters=parameters)
        return self.down(gated(rms_norm(h, self.norm), self.gate(x))), RecurrentState(last)

    def initial_state(self, batch_size: int) -> RecurrentState:
        return RecurrentState(fresh(self.down.weight, batch_size, self.parts * self.hidden_size))
