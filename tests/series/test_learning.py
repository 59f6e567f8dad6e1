"""The loop that estimators share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from minrnn.series._estimator import Whole
from minrnn.series._learning import Plan, learn


class Constant(nn.Module):
    """Answers with one number that it learns."""

    def __init__(self) -> None:
        super().__init__()
        self.number = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.number.expand(len(x))


class Same:
    """Examples with one target for all."""

    def __init__(self, target: float) -> None:
        self.target = target

    def __len__(self) -> int:
        return 7

    def take(self, rows: Tensor, random: torch.Generator | None = None) -> tuple[tuple[Tensor, ...], Tensor]:
        return (torch.zeros(len(rows), 1),), torch.full((len(rows),), self.target)


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square()


PLAN = Plan(steps=200, learning_rate=0.05, batch_size=4, seed=0, patience=0, weight_decay=0.0)


def test_the_last_weights_are_kept_without_a_held_out_part_and_the_best_with_one() -> None:
    learned, held_back = Constant(), Constant()
    learn(learned, Same(1.0), squared, PLAN, None, verbose=False)
    curve = learn(held_back, Same(1.0), squared, PLAN, Same(0.3), verbose=False)
    assert abs(learned.number.item() - 1.0) < 0.05
    assert abs((held_back.number.item() - 0.3) ** 2 - min(point["held_out"] for point in curve)) < 1e-6
    assert curve[-1]["held_out"] > min(point["held_out"] for point in curve)
    assert not held_back.training


def test_patience() -> None:
    plan = Plan(steps=200, learning_rate=0.05, batch_size=4, seed=0, patience=3, weight_decay=0.0)
    curve = learn(Constant(), Same(1.0), squared, plan, Same(0.3), verbose=False)
    scores = [point["held_out"] for point in curve]
    assert len(scores) < 20
    assert scores.index(min(scores)) == len(scores) - 1 - 3


def test_what_diverges_is_refused_before_the_weights_are() -> None:
    network, plan = Constant(), Plan(steps=200, learning_rate=1e30, batch_size=4, seed=0, patience=0, warmup=0)
    with pytest.raises(ValueError, match=r"diverged at step 2: loss inf, gradient norm .*learning_rate below 1e\+30"):
        learn(network, Same(1.0), squared, plan, None, verbose=False)
    assert network.number.isfinite()


def test_series_are_moved_in_time_within_their_length() -> None:
    x = torch.arange(1.0, 41.0)[None, :, None].repeat(300, 1, 1)
    lengths = torch.where(torch.arange(300) % 2 == 0, 40, 20)
    series = Whole(x, lengths, torch.zeros(300), shift=0.1)
    (read, _), _ = series.take(torch.arange(300), torch.Generator().manual_seed(0))
    for length in (40, 20):
        inside = read[lengths == length, :length, 0]
        steps = inside[:, length // 2] - x[0, length // 2, 0]  # far from the ends
        assert sorted(set(steps.int().tolist())) == list(range(-length // 10, length // 10 + 1))
        expected = (torch.arange(1.0, length + 1) + steps[:, None]).clamp(1, length)
        assert inside.equal(expected)
    (unmoved, _), _ = series.take(torch.arange(300))
    assert unmoved.equal(x)
