from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..fused import Linear
from ..mixers import exempt_from_weight_decay
from ..models import Norm, Stack
from ..models._stack import StackState


class SeriesState(NamedTuple):
    """What is kept of the steps that were read."""

    stack: StackState
    steps: Tensor  # how many, (B, 1)
    total: Tensor  # over time of what the norm gave, (B, D)
    highest: Tensor  # over time, (B, D)


class SeriesNetwork(nn.Module):
    """Reads whole series and answers once for each: Linear(C, D), a `Stack` in each direction, norm, mean and maximum
    over time, Linear.

    Args:
        channels: C, of the series.
        outputs: numbers in an answer, K.
        mixer: a mixer's name with its options, or a whole pattern for each of the layers (see `parse_pattern`).
        width: D.
        layers: how often `mixer` is repeated.
        bidirectional: whether a second stack reads the series from its end.
        conv, mlp, dropout: of each `Block`.

    Call: `y = network(x, lengths)`, x (B, T, C), lengths (B,) from 1 to T -> y (B, K). What x holds after a series'
    end does not matter.

    Example:
        >>> network = SeriesNetwork(3, 5, width=16)
        >>> y = network(torch.randn(2, 100, 3), torch.tensor([100, 60]))
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        *,
        mixer: str = "mingru",
        width: int = 64,
        layers: int = 2,
        bidirectional: bool = True,
        conv: int = 4,
        mlp: float = 2.0,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        directions = 1 + bidirectional
        self.dropout = dropout
        self.enter = Linear(channels, width)
        self.stacks = nn.ModuleList(
            Stack(width, f"({mixer})*{layers}", conv=conv, mlp=mlp, dropout=dropout) for _ in range(directions)
        )
        self.norm = Norm(directions * width)
        self.head = Linear(2 * directions * width, outputs)
        exempt_from_weight_decay(self.enter.bias, self.head.bias)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x (B, T, C), lengths (B,) -> y (B, K)"""
        h = self.enter(x)
        forward, *backward = self.stacks
        read = [forward(h)[0], *(turned(stack(turned(h, lengths))[0], lengths) for stack in backward)]
        y = self.norm(torch.cat(read, dim=-1))  # (B, T, directions * D)
        inside = (torch.arange(x.shape[1], device=x.device) < lengths[:, None])[:, :, None]
        mean = (y * inside).sum(dim=1) / lengths[:, None]
        highest = y.masked_fill(~inside, -torch.inf).amax(dim=1)
        return self._answer(mean, highest)

    def _answer(self, mean: Tensor, highest: Tensor) -> Tensor:
        """(B, directions * D) each -> (B, K)"""
        pooled = torch.cat([mean, highest], dim=-1)
        return self.head(F.dropout(pooled, self.dropout, self.training))  # type: ignore[no-any-return]

    def step(self, x: Tensor, read: SeriesState) -> tuple[Tensor, SeriesState]:
        """The answer to a series so far, after one step more: x (B, 1, C) -> y (B, K), state. One direction only."""
        (stack,) = self.stacks
        y, state = stack(self.enter(x), read.stack)
        y = self.norm(y)[:, 0]  # (B, D)
        steps, total = read.steps + 1, read.total + y
        highest = torch.where(read.steps == 0, y, torch.maximum(read.highest, y))
        return self._answer(total / steps, highest), SeriesState(state, steps, total, highest)

    def initial_state(self, batch_size: int) -> SeriesState:
        """Before the first step, for B = batch_size."""
        nothing = self.head.weight.new_zeros(batch_size, self.head.in_features // 2)
        (stack,) = self.stacks
        return SeriesState(
            stack.initial_state(batch_size),  # type: ignore[operator]
            torch.zeros(batch_size, 1, dtype=torch.int64, device=nothing.device),
            nothing,
            nothing,
        )


def turned(x: Tensor, lengths: Tensor) -> Tensor:
    """Each series from its last step to its first; what is after its end stays there. (B, T, D) -> (B, T, D)"""
    t = torch.arange(x.shape[1], device=x.device)
    source = torch.where(t < lengths[:, None], lengths[:, None] - 1 - t, t)  # (B, T)
    return x.gather(1, source[:, :, None].expand_as(x))
