"""Stacks of different mixers: patterns build, and the state of the whole is as exact as that of each."""

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from minrnn.mixers import names
from minrnn.models import Stack
from minrnn.recurrence import backend

D = 16
PATTERNS = {
    "mingru*9 attention*3": (12, False),
    "(mingru*3 attention)*3": (12, False),
    "mingru*10 attention*2": (12, False),
    "rglru*2 attention:window=7": (3, True),
    "mamba:state=3 srupp deltanet": (3, False),
    "slstm mlstm:chunk=4 rwkv4 s4d:state=4": (4, True),
}


def run(stack: Stack, x: Tensor, lengths: list[int], reset: Tensor | None = None) -> tuple[Tensor, Any]:
    pieces, state = [], None
    cuts = x.split(lengths, dim=1)
    resets = [None] * len(cuts) if reset is None else reset.split(lengths, dim=1)
    for piece, cut in zip(cuts, resets, strict=True):
        y, state = stack(piece, state, cut)
        pieces.append(y)
    return torch.cat(pieces, dim=1), state


@pytest.mark.parametrize("pattern", PATTERNS)
def test_chunks_steps_and_resets(pattern: str) -> None:
    torch.manual_seed(0)
    stack, x = Stack(D, pattern, mlp=1.0).double(), torch.randn(2, 20, D, dtype=torch.float64)
    blocks, constant = PATTERNS[pattern]
    assert len(stack.blocks) == blocks and stack.constant_state == constant
    reset = torch.zeros(2, 20, dtype=torch.bool)
    reset[1, 11] = True
    expected, _ = stack(x, None, reset)
    for lengths in ([9, 11], [1] * 20):
        torch.testing.assert_close(run(stack, x, lengths, reset)[0], expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(stack(x[1:, 11:])[0], expected[1:, 11:], rtol=1e-9, atol=1e-9)
    with backend("definition"):
        torch.testing.assert_close(stack(x, None, reset)[0], expected, rtol=1e-8, atol=1e-8)


def test_every_mixer_at_once_learns() -> None:
    """All of them in one stack, each with a gradient for every parameter, and a loss that falls."""
    torch.manual_seed(0)
    stack = Stack(D, " ".join(names()), mlp=1.0)
    x = torch.randn(4, 30, D)
    optimizer = torch.optim.Adam(stack.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        loss = (stack(x)[0] - x.roll(1, dims=1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        without = Counter(name.split(".")[2] for name, p in stack.named_parameters() if p.grad is None)
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert not without, without
