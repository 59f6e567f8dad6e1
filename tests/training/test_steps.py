"""The pieces of one update: learning rate, weight decay, windows, random numbers, and how many steps a time allows."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from minrnn.models import LanguageModel, LanguageModelConfig
from minrnn.training import TrainConfig
from minrnn.training._batches import draw_windows, seed_of
from minrnn.training._optimizer import build_optimizer, learning_rate
from minrnn.training._pace import Pace


def config(**changes: object) -> TrainConfig:
    return TrainConfig(**{"data": "d", "out": "o", "steps": 100, "warmup": 10} | changes)  # type: ignore[arg-type]


def test_learning_rate_rises_then_falls_to_its_last() -> None:
    settings = config(learning_rate=1.0, final_rate=0.1)
    rates = [learning_rate(settings, step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert rates[10] == 1.0
    assert rates[99] == pytest.approx(0.1)
    assert all(earlier >= later for earlier, later in pairwise(rates[10:]))


def test_learning_rate_does_not_need_the_number_of_steps_while_it_rises() -> None:
    unknown = config(steps=0, minutes=1.0)
    assert [learning_rate(unknown, step) for step in range(10)] == [learning_rate(config(), step) for step in range(10)]


@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_learning_rate_of_the_shortest_runs(steps: int) -> None:
    rates = [learning_rate(config(steps=steps), step) for step in range(steps)]
    assert all(0 < rate <= config().learning_rate for rate in rates)


def test_weight_decay_leaves_out_what_the_model_exempts() -> None:
    model = LanguageModel(LanguageModelConfig(vocabulary_size=11, width=16, pattern="mingru minlstm"))
    groups = build_optimizer(model, config(weight_decay=0.3)).param_groups
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        exempt = (
            parameter.dim() == 1
            or "norm" in name
            or "embedding" in name
            or getattr(parameter, "no_weight_decay", False)
        )
        assert decay[id(parameter)] == (0.0 if exempt else 0.3), name
    assert set(decay.values()) == {0.0, 0.3}


def test_windows_are_a_function_of_seed_and_step() -> None:
    tokens = np.arange(1000, dtype=np.uint16)
    windows = draw_windows(tokens, context=8, batch=5, seed=3, step=7)
    assert windows.shape == (5, 9)
    assert windows.dtype == torch.int64
    assert (windows.diff(dim=1) == 1).all()
    assert torch.equal(windows, draw_windows(tokens, context=8, batch=5, seed=3, step=7))
    assert not torch.equal(windows, draw_windows(tokens, context=8, batch=5, seed=3, step=8))
    assert not torch.equal(windows, draw_windows(tokens, context=8, batch=5, seed=4, step=7))


def test_a_pass_takes_every_part_of_the_text_once() -> None:
    """100 tokens have room for 11 windows of 8 targets, and for cuts at 12 places."""
    tokens = np.arange(100)
    starts = torch.cat([draw_windows(tokens, context=8, batch=4, seed=0, step=step)[:, 0] for step in range(11 * 50)])
    places = set()
    for one in starts.split(11):
        ordered, order = one.sort()
        assert (ordered.diff() == 8).all()
        assert order.tolist() != list(range(11))
        places.add(int(ordered[0]))
    assert places == set(range(12))  # the last of them ends with the last token


@pytest.mark.parametrize("length", [9, 10, 16, 17, 18])
def test_windows_of_the_shortest_texts(length: int) -> None:
    windows = draw_windows(np.arange(length), context=8, batch=500, seed=0, step=0)
    assert windows[:, 0].unique().tolist() == list(range(length - 8))
    assert windows[:, -1].max() == length - 1


def test_seeds_differ_in_each_number() -> None:
    seeds = {seed_of(seed, step, rank) for seed in range(5) for step in range(5) for rank in range(5)}
    assert len(seeds) == 125


def test_affordable_steps_take_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    pace = Pace(0.0)
    for _ in range(10):
        now += 0.5
        pace.step(0.5)
    assert pace.known(60.0)
    steps = pace.affordable(60.0, evaluate_every=10, evaluation=2.0, final=4.0)
    needed = now + 0.5 * steps + 2.0 * (1 + steps // 10) + 4.0
    assert 54 < needed <= 60
