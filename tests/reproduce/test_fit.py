"""The loop that all tasks are learned with."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from minrnn.errors import UserError
from minrnn.reproduce import tasks
from minrnn.reproduce._experiment import Results
from minrnn.reproduce._fit import Fit, SequenceModel, evaluate, fresh_model, train
from minrnn.reproduce.gradients import by_distance
from minrnn.reproduce.scaling import Scaling, compute
from minrnn.reproduce.shakespeare import reached

PARITY = Fit(
    task="group words",
    setting={"group": "Z2", "shortest": 1, "longest": 8},
    pattern="gru*1",
    width=32,
    steps=150,
    learning_rate=1e-2,
    evaluate={"trained length": {}},
    test={"longer": {"shortest": 20, "longest": 20, "asked": "last"}},
    sequences=128,
    evaluations=5,
)


def silent(done: float, words: str) -> None:
    """Watches nothing."""


def learn(fit: Fit, seed: int) -> dict[str, Any]:
    """What a fresh model comes to."""
    return train(fresh_model(fit, seed), fit, seed, silent)


def test_a_network_that_sees_its_state_learns_parity_and_the_same_seed_learns_the_same() -> None:
    result = learn(PARITY, 0)
    assert result["scores"]["trained length"] > 0.99 and result["scores"]["longer"] > 0.9
    assert [point["step"] for point in result["curve"]] == [30, 60, 90, 120, 150]
    assert result["parameters"] == sum(
        p.numel() for p in SequenceModel(tasks.make(PARITY.task, PARITY.setting), PARITY).parameters()
    )
    again = learn(PARITY, 0)
    assert again["scores"] == result["scores"] and again["losses"] == result["losses"]
    other = learn(PARITY, 1)
    assert other["losses"] != result["losses"]
    json.dumps(result, allow_nan=False)


def test_training_stops_when_it_is_enough() -> None:
    result = learn(replace(PARITY, enough=0.5), 0)
    assert result["steps"] == 60 and len(result["curve"]) == 2


def test_a_fit_comes_back_from_json() -> None:
    fit = replace(PARITY, betas=(0.8, 0.95))
    assert Fit.from_json(json.loads(json.dumps(fit.to_json()))) == fit


def test_real_targets_are_right_within_the_tolerance_of_their_task() -> None:
    fit = Fit("adding", {"length": 10}, "mingru*1", 8, 1, 1e-3, sequences=400, sequences_at_once=400)
    task = tasks.make(fit.task, fit.setting)
    model = SequenceModel(task, fit).eval()
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.ones_(model.head.bias)
    measured = evaluate(model, task, fit)
    sums = torch.cat([batch.targets for batch in task.held_out(400, 400)]).flatten()
    assert measured["loss"] == pytest.approx((sums - 1).square().mean().item(), rel=1e-5)
    assert measured["score"] == pytest.approx(((sums - 1).abs() <= 0.04).float().mean().item())


def test_a_whole_word_is_right_where_all_its_products_are() -> None:
    by_steps = {"group": "Z2", "shortest": 3, "longest": 3}
    fit = Fit("group words", by_steps, "mingru*1", 8, 1, 1e-3, sequences=400)
    task = tasks.make(fit.task, by_steps)
    model = SequenceModel(task, fit).eval()
    torch.nn.init.zeros_(model.head.weight)
    with torch.no_grad():
        model.head.bias[:] = torch.tensor(
            [1.0, 0.0]
        )  # it always answers 0: right for a product in two, a word in eight
    assert evaluate(model, task, fit)["score"] == pytest.approx(1 / 2, abs=0.06)
    whole = tasks.make(fit.task, {**by_steps, "whole": True})
    assert evaluate(model, whole, fit)["score"] == pytest.approx(1 / 8, abs=0.06)


def test_gradients_by_distance_are_those_of_the_chain_rule() -> None:
    fit = Fit("adding", {"length": 33}, "mingru:expansion=1*1", 4, steps=1, learning_rate=1e-3)
    task = tasks.make(fit.task, fit.setting)
    model = SequenceModel(task, fit)
    with torch.no_grad():  # a gate that is the same at all steps: each step multiplies by 1 - z
        weight, bias = model.stack.blocks[0].mixer.cell.projection.parameters()  # type: ignore[union-attr]
        weight[:4], bias[:4] = 0, -1.0
    found = by_distance(model, fit)
    # The residual reaches the last step alone; the others differ by powers of what a step keeps.
    keeps = 1 - torch.sigmoid(torch.tensor(-1.0)).item()
    near, far = found["distances"].index(4), found["distances"].index(32)
    assert found["relative"][far] / found["relative"][near] == pytest.approx(keeps**28, rel=0.5)


def test_where_a_loss_is_reached_lies_between_evaluations() -> None:
    curve = [
        {"step": step, "held_out": {"held out": {"loss": loss}}} for step, loss in ((10, 3.0), (20, 2.0), (30, 1.5))
    ]
    assert reached({"curve": curve}, 1.75) == 25
    assert reached({"curve": curve}, 1.0) == float("inf")
    assert reached({"curve": curve}, 3.5) == 10


def test_models_of_one_size_in_the_scaling_experiment_have_alike_many_parameters() -> None:
    experiment = Scaling()
    for fit in experiment.settings("cpu").values():
        counts = []
        for one in experiment.contestants("cpu"):
            task = tasks.make("text", {"source": "python-docs"})
            pattern = one.pattern.replace("forget_bias=?", "forget_bias=0")
            model = SequenceModel(task, replace(fit, pattern=pattern))
            counts.append(sum(parameter.numel() for parameter in model.parameters()))
        assert max(counts) / min(counts) < 1.05


def test_models_of_one_size_in_the_scaling_experiment_take_alike_many_operations() -> None:
    experiment = Scaling()
    spent: dict[str, list[float]] = {}
    for cell in experiment.cells("cpu", Results([])):
        spent.setdefault(cell.setting, []).append(compute(Fit.from_json(cell.options)))
    assert len(spent) == 4
    for operations in spent.values():
        assert len(operations) >= 3
        assert max(operations) / min(operations) < 1.001


def test_operations_of_attention_grow_with_its_context() -> None:
    fit = next(iter(Scaling().settings("cpu").values()))
    one, two = (
        compute(replace(fit, pattern="attention", conv=0, mlp=0.0, setting={"context": context}))
        for context in (128, 256)
    )
    D, tokens = 64, 1200 * 16
    assert two - 2 * one == 6 * tokens * D * (256**2 - 2 * 128**2)


def test_windows_of_trajectories_have_the_return_that_is_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    from minrnn.reproduce.tasks import trajectories

    rng = np.random.default_rng(0)
    episodes = [
        trajectories.Episode(
            rng.normal(size=(L, 3)).astype(np.float32),
            rng.uniform(-1, 1, (L, 2)).astype(np.float32),
            np.full(L, reward, dtype=np.float32),
        )
        for L, reward in ((30, 1.0), (7, 2.0), (25, 1e4))
    ]
    monkeypatch.setattr(trajectories, "read", lambda body: episodes)
    task = trajectories.Trajectories(body="hopper test", context=10)
    monkeypatch.setitem(trajectories.REFERENCE, "hopper test", trajectories.REFERENCE["hopper"])
    assert [one.score for one in trajectories.chosen(task)] == [30, 14]  # 25,000 times ten is above 60 points
    batch = task.batch(np.random.default_rng(1), 64)
    assert batch.inputs.shape == (64, 10, 1 + 3 + 2) and len(batch.targets) == int(batch.scored.sum())
    at = 0
    for inputs, scored in zip(batch.inputs, batch.scored, strict=True):
        L = int(scored.sum())
        to_come = inputs[:L, 0] * 1000
        assert (to_come.diff() < 0).all() and torch.allclose(inputs[1:L, 4:], batch.targets[at : at + L - 1])
        at += L


def test_a_file_of_trajectories_is_cut_into_its_episodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from minrnn.reproduce import FOLDER
    from minrnn.reproduce.tasks import trajectories

    monkeypatch.setenv(FOLDER, str(tmp_path))
    arrays = {
        "observations": np.arange(24, dtype=np.float32).reshape(8, 3),
        "actions": np.zeros((8, 2), dtype=np.float32),
        "rewards": np.ones(8, dtype=np.float32),
        "terminals": np.array([0, 0, 1, 0, 0, 0, 0, 0], dtype=bool),
        "timeouts": np.array([0, 0, 0, 0, 0, 0, 1, 0], dtype=bool),
    }
    with pytest.raises(
        UserError, match=r"there is no hopper\.npz in .*--trajectories, or make the files with --collect"
    ):
        trajectories.read("hopper")
    np.savez(tmp_path / "hopper.npz", **arrays)
    first, second = trajectories.read("hopper")  # what has no end is no episode
    assert first.score == 3 and second.score == 4
    assert second.observations.tolist() == arrays["observations"][3:7].tolist()
    assert trajectories.source("hopper", below=60.0).startswith("2 of 2 episodes (sha256 ")

    np.savez(tmp_path / "rl_walker2d_mixed.npz", **{**arrays, "rewards": np.full(8, np.nan, dtype=np.float32)})
    with pytest.raises(UserError, match="not finite"):
        trajectories.read("walker2d")
    whole = (tmp_path / "rl_walker2d_mixed.npz").read_bytes()
    for damaged in (b"no archive", whole[: len(whole) // 2]):
        (tmp_path / "halfcheetah.npz").write_bytes(damaged)
        with pytest.raises(UserError, match="is no file of trajectories"):
            trajectories.read("halfcheetah")


def test_random_episodes_of_a_robot_are_scored_as_d4rl_scores() -> None:
    from minrnn.reproduce._collect import random_episodes
    from minrnn.reproduce.tasks.trajectories import normalised

    episodes = random_episodes("Hopper-v5", 4)
    assert all(one.observations.shape == (len(one.rewards), 11) and one.actions.shape[1] == 3 for one in episodes)
    assert all(-1 < normalised("hopper", one.score) < 8 for one in episodes)  # 0 is what random actions earn
    again = random_episodes("Hopper-v5", 4)
    assert [one.score for one in again] == [one.score for one in episodes]


def test_episodes_are_collected_in_stages_and_a_stop_loses_none_that_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import stable_baselines3
    from stable_baselines3 import PPO

    from minrnn.reproduce import _collect
    from minrnn.reproduce.tasks.trajectories import file_of, read_episodes
    from minrnn.training._progress import Silent

    monkeypatch.setattr(stable_baselines3, "PPO", partial(PPO, n_steps=64))
    monkeypatch.setattr(_collect, "STAGES", 2)
    monkeypatch.setattr(_collect, "STEPS_A_STAGE", 64)
    monkeypatch.setattr(_collect, "EPISODES_A_STAGE", 2)
    learned, began = PPO.learn, []

    def stopped_in_the_second(self: PPO, *arguments: Any, **options: Any) -> PPO:
        began.append(self.policy.action_net.weight.detach().clone())
        if len(began) == 2:
            raise KeyboardInterrupt
        return learned(self, *arguments, **options)

    monkeypatch.setattr(PPO, "learn", stopped_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        _collect.collect("hopper", tmp_path, Silent())
    assert file_of("hopper", tmp_path) is None
    stage = tmp_path / "hopper-stage-1.npz"
    first, whole = read_episodes(stage), stage.read_bytes()
    stage.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="no policy to go on from"):
        _collect.collect("hopper", tmp_path, Silent())
    stage.write_bytes(whole)

    _collect.collect("hopper", tmp_path, Silent())
    assert len(began) == 3 and torch.equal(began[1], began[2]) and not torch.equal(began[0], began[2])
    assert [file.name for file in tmp_path.iterdir()] == ["hopper.npz"]
    episodes = read_episodes(tmp_path / "hopper.npz")
    assert len(episodes) == 4
    assert [one.score for one in episodes[:2]] == [one.score for one in first]
    assert all(one.observations.shape[1] == 11 and np.abs(one.actions).max() <= 1 for one in episodes)


def test_episodes_of_a_minari_set_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    import minari
    from minari.data_collector import EpisodeBuffer

    from minrnn.reproduce import FOLDER
    from minrnn.reproduce._collect import environment, random_episodes
    from minrnn.reproduce.tasks.trajectories import read

    episodes = random_episodes("Hopper-v5", 2)
    buffers = [
        EpisodeBuffer(
            observations=np.vstack([one.observations, np.zeros((1, 11))]),  # Minari keeps the last one, too
            actions=one.actions,
            rewards=one.rewards.tolist(),
            terminations=[False] * len(one.rewards),
            truncations=[step == len(one.rewards) - 1 for step in range(len(one.rewards))],
        )
        for one in episodes
    ]
    about = dict.fromkeys(("algorithm_name", "author", "author_email", "code_permalink", "description"), "a test")
    world = environment("Hopper-v5")
    minari.create_dataset_from_buffers("hopper/test-v0", buffers, world, world, **about)
    monkeypatch.setenv(FOLDER, "minari:{body}/test-v0")
    for one, expected in zip(read("hopper"), episodes, strict=True):
        np.testing.assert_array_equal(one.observations, expected.observations)
        np.testing.assert_array_equal(one.actions, expected.actions)
        np.testing.assert_array_equal(one.rewards, expected.rewards)

    monkeypatch.setenv(FOLDER, "minari:without a version")
    with pytest.raises(UserError, match="minari:without a version cannot be loaded"):
        read("walker2d")
