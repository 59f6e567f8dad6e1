from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..fused import Linear, gated, recent
from ..recurrence import channelwise
from ._contract import Mixer, check_sequence, check_state, exempt_from_weight_decay
from ._minimal import fresh, unit_variance


class RWKV4State(NamedTuple):
    """What an RWKV-4 layer carries."""

    values: Tensor  # sum of all values so far under their weights, as a multiple of e^exponent; (B, D)
    weights: Tensor  # sum of those weights, as a multiple of e^exponent; (B, D), 0 before the first step
    exponent: Tensor  # (B, D); float32 or float64, as both sums
    time_input: Tensor  # the last input of the time mixing, (B, 1, D)
    channel_input: Tensor  # the last input of the channel mixing, (B, 1, D), or (B, 0, D) without one


class RWKV4Mixer(Mixer):
    """RWKV-4: time mixing, and channel mixing after it (arXiv 2305.13048, section 3.1).

    r, k, v = W (mu x_t + (1 - mu) x_{t-1}), each with its own mu                                (equations 11 to 13)
    wkv_t = (sum_{i<t} e^{-(t-1-i) w + k_i} v_i + e^{u + k_t} v_t) / (the same sum without v)            (equation 14)
    a_t = W_down (sigmoid(r_t) wkv_t)                                                                    (equation 15)
    y_t = a_t + C(LayerNorm(x + a))_t, C(x)_t = sigmoid(r'_t) W'_v relu(k'_t)^2                   (equations 16 to 18)

    A mixer does not see the residual stream that its input is a norm of; the channel mixing reads x + a in its place.

    Args:
        width: D.
        layer, num_layers: where it stands; decay, mu and bonus start by it. Default the only layer.
        channel_mix: with channel mixing (default), whose inner width is 4 D; it stands for the MLP of a block. False
            is the time mixing alone.
    """

    def __init__(self, width: int, *, layer: int = 0, num_layers: int = 1, channel_mix: bool = True) -> None:
        if not 0 <= layer < num_layers:
            raise ValueError(f"layer is {layer}; expected 0 <= layer < num_layers = {num_layers}")
        super().__init__()
        self.width = width
        depth = layer / (num_layers - 1) if num_layers > 1 else 0.0
        rest = 1 - layer / num_layers
        channel = torch.arange(width)
        share = channel / width
        self.mix = nn.Parameter(torch.stack([share ** (rest / 2), share**rest, share**rest + 0.3 * depth]))  # mu_r,k,v
        self.decay = nn.Parameter(-5 + 8 * (channel / max(1, width - 1)) ** (0.7 + 1.3 * depth))  # w = e^decay
        self.bonus = nn.Parameter(math.log(0.3) + ((channel + 1) % 3 - 1) / 2)  # u
        self.receptance, self.key, self.value = (Linear(width, width, bias=False) for _ in range(3))
        self.down = Linear(width, width, bias=False)
        for part in (self.receptance, self.key, self.value, self.down):
            unit_variance(part)
        exempt_from_weight_decay(self.mix, self.decay, self.bonus)
        self.channel = _ChannelMix(width, rest) if channel_mix else None

    def forward(
        self, x: Tensor, state: RWKV4State | None = None, *, reset: Tensor | None = None
    ) -> tuple[Tensor, RWKV4State]:
        check_sequence(x, self.width, reset)
        B, D = len(x), self.width
        of_sum = {"B": B, "D": D}
        check_state(
            state, RWKV4State, values=of_sum, weights=of_sum, exponent=of_sum, time_input={"B": B, "1": 1, "D": D}
        )
        sums = None if state is None else torch.cat(state[:3], dim=-1)
        (before, now), last_input = recent(x, 2, None if state is None else state.time_input, reset)
        r, k, v = (torch.lerp(before, now, mu.to(x.dtype)) for mu in self.mix.unbind())
        stacked = torch.cat([self.receptance(r), self.key(k), self.value(v)], dim=-1)
        parameters = torch.stack([self.decay.exp(), self.bonus])
        mixed, sums = channelwise("rwkv4", stacked, sums, reset, parameters=parameters)
        y = self.down(mixed)
        channel_input = x.new_zeros(B, 0, D) if state is None else state.channel_input
        if self.channel is not None:
            added, channel_input = self.channel(x + y, None if state is None else channel_input, reset)
            y = y + added
        values, weights, exponent = sums.chunk(3, dim=-1)
        return y, RWKV4State(values, weights, exponent, last_input, channel_input)

    def initial_state(self, batch_size: int) -> RWKV4State:
        # Each field may be written to in place, so none is another.
        values, weights, exponent = (fresh(self.down.weight, batch_size, self.width) for _ in range(3))
        steps = (1, 1 if self.channel is not None else 0)
        last, channel = (self.down.weight.new_zeros(batch_size, T, self.width) for T in steps)
        return RWKV4State(values, weights, exponent, last, channel)

    def scale_output(self, gain: float) -> None:
        super().scale_output(gain)
        if self.channel is not None:
            with torch.no_grad():
                self.channel.down.weight.mul_(gain)


class _ChannelMix(nn.Module):
    """LayerNorm, then the channel mixing, which looks one step back."""

    def __init__(self, width: int, rest: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mix = nn.Parameter((torch.arange(width) / width).expand(2, -1) ** rest)  # mu_r, mu_k
        self.receptance = Linear(width, width, bias=False)
        self.key = Linear(width, 4 * width, bias=False)
        self.down = Linear(4 * width, width, bias=False)
        for part in (self.receptance, self.key, self.down):
            unit_variance(part)
        exempt_from_weight_decay(self.norm.weight, self.norm.bias, self.mix)

    def forward(self, x: Tensor, window: Tensor | None, reset: Tensor | None) -> tuple[Tensor, Tensor]:
        (before, now), window = recent(self.norm(x), 2, window, reset)
        r, k = (torch.lerp(before, now, mu.to(now.dtype)) for mu in self.mix.unbind())
        return gated(self.down(F.relu(self.key(k)).square()), self.receptance(r), "sigmoid"), window
