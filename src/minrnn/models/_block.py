from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..fused import Linear, causal_conv, dropout_add, gelu_dropout, rms_norm
from ..mixers import Mixer, check_sequence, exempt_from_weight_decay, unit_variance


class BlockState(NamedTuple):
    """What a block carries from chunk to chunk."""

    window: Tensor | None  # last W-1 inputs of the convolution, (B, W-1, D)
    mixer: Any  # the mixer's NamedTuple


class Block(nn.Module):
    """Convolution, mixer and MLP, each x + part(norm(x)) (arXiv 2410.01201, Appendix C: Conv4 -> minRNN -> MLP).

    The authors' code has no norm before its convolution and a second, pointwise one after it; here all three parts
    are alike.

    Args:
        mixer: the sequence mixer, of width D.
        conv: steps W that the depthwise causal convolution sees; 0 leaves it out.
        mlp: hidden width of the MLP as a multiple of D; 0 leaves it out.
        dropout: share of the mixer's output, the MLP's output and its hidden activations that is dropped in training.

    Call: `y, state = block(x, state=None, reset=None)`, x and y (B, T, D).
    """

    def __init__(self, mixer: Mixer, *, conv: int = 4, mlp: float = 4.0, dropout: float = 0.0) -> None:
        super().__init__()
        D = mixer.width
        self.dropout = dropout
        self.conv = _Conv(D, conv) if conv else None
        self.mixer_norm = Norm(D)
        self.mixer = mixer
        self.mlp = _MLP(D, max(1, round(mlp * D)), dropout) if mlp else None

    def forward(
        self, x: Tensor, state: BlockState | None = None, reset: Tensor | None = None
    ) -> tuple[Tensor, BlockState]:
        """x (B, T, D) -> y (B, T, D), state."""
        check_sequence(x, self.mixer.width, reset)
        window, mixer_state = (None, None) if state is None else state
        if self.conv is not None:
            y, window = self.conv(x, window, reset)
            x = x + y
        y, mixer_state = self.mixer(self.mixer_norm(x), mixer_state, reset=reset)
        x = dropout_add(x, y, self.dropout, self.training)
        if self.mlp is not None:
            x = dropout_add(x, self.mlp(x), self.dropout, self.training)
        return x, BlockState(window, mixer_state)

    def initial_state(self, batch_size: int) -> BlockState:
        """The state before the first step, for B = batch_size."""
        window = None if self.conv is None else self.conv.initial_window(batch_size)
        return BlockState(window, self.mixer.initial_state(batch_size))

    def scale_output(self, gain: float) -> None:
        """Scale what the fresh mixer and MLP write into the residual stream."""
        self.mixer.scale_output(gain)
        if self.mlp is not None:
            with torch.no_grad():
                self.mlp.down.weight.mul_(gain)


class Norm(nn.Module):
    """RMSNorm with a learned scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        exempt_from_weight_decay(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)"""
        return rms_norm(x, self.weight)


class _Conv(nn.Module):
    """Norm, then a depthwise causal convolution over W steps."""

    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        self.norm = Norm(width)
        bound = steps**-0.5  # that of nn.Conv1d
        self.weight = nn.Parameter(torch.empty(width, steps).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(width))
        exempt_from_weight_decay(self.weight, self.bias)

    def forward(self, x: Tensor, window: Tensor | None, reset: Tensor | None) -> tuple[Tensor, Tensor]:
        return causal_conv(self.norm(x), self.weight, self.bias, window, reset)

    def initial_window(self, batch_size: int) -> Tensor:
        D, W = self.weight.shape
        return self.weight.new_zeros(batch_size, W - 1, D)


class _MLP(nn.Module):
    """Norm, Linear, GELU, dropout, Linear."""

    def __init__(self, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.norm = Norm(width)
        self.up = Linear(width, hidden)
        self.down = Linear(hidden, width)
        for part in (self.up, self.down):
            unit_variance(part)
        exempt_from_weight_decay(self.up.bias, self.down.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(gelu_dropout(self.up(self.norm(x)), self.dropout, self.training))  # type: ignore[no-any-return]
