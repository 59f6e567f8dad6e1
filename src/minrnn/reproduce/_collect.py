"""Episodes of mixed quality, made here: by random actions, or by policies that learn and are recorded on the way."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from minrnn.errors import UserError
from minrnn.training._files import replacing

from .tasks.trajectories import ENVIRONMENT, Episode, Floats

STAGES = 4
STEPS_A_STAGE = 100_000
EPISODES_A_STAGE = 15
NOISE_EVERY = 50  # steps


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


def collect(bodies: list[str], folder: Path, say: Callable[[str], None]) -> None:
    """Write `BODY.npz` for each body: a PPO policy learns in stages, and after each it is recorded with noise whose
    size is drawn anew every 50 steps.
    """
    try:
        from stable_baselines3 import PPO
    except ImportError:
        raise UserError("--collect needs stable-baselines3; run pip install 'minrnn[rl]'") from None
    folder.mkdir(parents=True, exist_ok=True)
    for body in bodies:
        world = environment(ENVIRONMENT[body])
        learner = PPO("MlpPolicy", world, seed=0, device="cpu")
        rng, episodes = np.random.default_rng(0), list[Episode]()
        for stage in range(STAGES):
            say(f"{body}: learning, stage {stage + 1} of {STAGES}")
            learner.learn(STEPS_A_STAGE, reset_num_timesteps=False)
            for _ in range(EPISODES_A_STAGE):
                episodes.append(episode(world, _noisy(learner, rng, world.action_space.shape), len(episodes)))
        ends = np.concatenate([np.arange(len(one.rewards)) == len(one.rewards) - 1 for one in episodes])
        with replacing(folder / f"{body}.npz") as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                observations=np.vstack([one.observations for one in episodes]),
                actions=np.vstack([one.actions for one in episodes]),
                rewards=np.concatenate([one.rewards for one in episodes]),
                terminals=ends,
                timeouts=np.zeros_like(ends),
            )
        say(f"{body}: {len(episodes)} episodes in {folder / f'{body}.npz'}")


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
