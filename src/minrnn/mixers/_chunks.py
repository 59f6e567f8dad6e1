"""Sequences in chunks, for mixers whose state is a matrix: within a chunk matrix products, between chunks a recurrence.

Letters: B batch, N chunks, C steps in a chunk; heads stand before N.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def chunked(x: Tensor, C: int) -> Tensor:
    """(B, T, heads, ...) -> (B, heads, N, C, ...), zeros after the end; at least one chunk."""
    B, T, heads, *rest = x.shape
    N = max(1, -(-T // C))
    x = F.pad(x, (0, 0) * (x.dim() - 2) + (0, N * C - T))
    return x.reshape(B, N, C, heads, *rest).movedim(3, 1)


def joined(y: Tensor, T: int) -> Tensor:
    """(B, heads, N, C, d) -> (B, T, heads, d)"""
    B, heads, N, C, d = y.shape
    return y.movedim(1, 3).reshape(B, N * C, heads, d)[:, :T]


def together(reset: Tensor | None, T: int, C: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Which steps of a chunk see which: pairs (B, 1, N, C, C) bool, true where the step of the column is not after that
    of the row and in the same sequence; and goes_on (B, 1, N, C), true where that sequence began before the chunk. Axes
    of length 1 where no reset tells batch rows and chunks apart.
    """
    pairs = torch.ones(C, C, dtype=torch.bool, device=device).tril()
    if reset is None:
        return pairs.expand(1, 1, 1, C, C), pairs.new_ones(1, 1, 1, C)
    number = chunked(reset[..., None].long(), C).cumsum(dim=-1)  # (B, 1, N, C)
    return pairs & (number[..., :, None] == number[..., None, :]), number == 0
