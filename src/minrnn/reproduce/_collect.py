"""Episodes of mixed quality, made here: by random actions, or by policies that learn and are recorded on the way."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch

from minrnn.errors import UserError
from minrnn.training._files import writing
from minrnn.training._progress import Display

from .tasks.trajectories import ENVIRONMENT, Episode, Floats, read_episodes, write_episodes

STAGES = 4
STEPS_A_STAGE = 100_000
EPISODES_A_STAGE = 15
NOISE_EVERY = 50  # steps
POLICY = "policy."  # before the names of its weights in the file of a stage


def environment(name: str) -> Any:
    """A simulated robot. Raises UserError where gymnasium or MuJoCo is missing."""
    os.environ.setdefault("MUJOCO_GL", "disabled")  # nothing is drawn, and machines without a screen cannot
    try:
        import gymnasium

        return gymnasium.make(name)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{name} needs gymnasium with MuJoCo; run pip install 'minrnn[rl]'") from error


def episode(world: Any, policy: Callable[[Floats], Floats], seed: int) -> Episode:
    """One episode from a seed."""
    observation, _ = world.reset(seed=seed)
    observations, actions, rewards = [], [], []
    over = False
    while not over:
        action = np.clip(policy(observation), world.action_space.low, world.action_space.high)
        observations.append(observation)
        actions.append(action)
        observation, reward, terminated, truncated, _ = world.step(action)
        rewards.append(reward)
        over = terminated or truncated
    return Episode(*(np.array(part, dtype=np.float32) for part in (observations, actions, rewards)))


def random_episodes(name: str, number: int) -> list[Episode]:
    """Episodes of actions drawn alike."""
    world, rng = environment(name), np.random.default_rng(0)
    return [episode(world, lambda seen: rng.uniform(-1, 1, world.action_space.shape), seed) for seed in range(number)]


def collect(body: str, folder: Path, show: Display) -> None:
    """Write `BODY.npz`: a PPO policy learns in stages, and after each it is recorded with noise whose size is drawn
    anew every 50 steps. Each stage is a file of its own until all are done; after a stop the next one follows, from
    the policy that the last one left.
    """
    try:
        from stable_baselines3 import PPO
    except ImportError:
        raise UserError("--collect needs stable-baselines3; run pip install 'minrnn[rl]'") from None
    world = environment(ENVIRONMENT[body])
    learner = PPO("MlpPolicy", world, seed=0, device="cpu")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    stages = [folder / f"{body}-stage-{number}.npz" for number in range(1, STAGES + 1)]
    for number, stage in enumerate(stages, start=1):
        if stage.exists():
            _take_over(learner, stage)
            continue
        doing = f"{body}: stage {number} of {STAGES}"
        _learn(learner, doing, show)
        policy, episodes = _noisy(learner, np.random.default_rng(number), world.action_space.shape), []
        for seed in range(EPISODES_A_STAGE):
            show.busy(f"{doing}, {seed} of {EPISODES_A_STAGE} episodes recorded")
            episodes.append(episode(world, policy, number * EPISODES_A_STAGE + seed))
        weights = {POLICY + name: weight.numpy() for name, weight in learner.policy.state_dict().items()}
        write_episodes(stage, episodes, **weights)
        show.say(f"{doing}: {np.mean([one.score for one in episodes]):.0f} is the mean return")
    write_episodes(folder / f"{body}.npz", [one for stage in stages for one in read_episodes(stage)])
    for stage in stages:
        stage.unlink()


def _learn(learner: Any, doing: str, show: Display) -> None:
    """One stage."""
    before = learner.num_timesteps

    def learning(*_: Any) -> bool:
        show.busy(f"{doing}, {(learner.num_timesteps - before) / STEPS_A_STAGE:.0%} learned")
        return True

    learner.learn(STEPS_A_STAGE, callback=learning, reset_num_timesteps=False)


def _take_over(learner: Any, stage: Path) -> None:
    """Go on from the policy that a stage left; the moments of its optimizer begin anew."""
    try:
        with stage.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            names = [name for name in file if name.startswith(POLICY)]
            weights = {name.removeprefix(POLICY): torch.from_numpy(file[name]) for name in names}
        learner.policy.load_state_dict(weights)
    except (OSError, ValueError, RuntimeError, BadZipFile) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{stage} has no policy to go on from: {reason}; remove it to learn its stage anew") from error


def _noisy(learner: Any, rng: np.random.Generator, shape: tuple[int, ...]) -> Callable[[Floats], Floats]:
    step, size = 0, 0.0

    def policy(observation: Floats) -> Floats:
        nonlocal step, size
        if step % NOISE_EVERY == 0:
            size = rng.uniform(0, 1)
        step += 1
        action: Floats = learner.predict(observation, deterministic=True)[0]
        return action + size * rng.standard_normal(shape).astype(np.float32)

    return policy
