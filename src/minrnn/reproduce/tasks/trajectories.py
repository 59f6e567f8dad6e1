"""Episodes of robots that others controlled, to learn from without ever trying."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from minrnn.errors import UserError
from minrnn.training._files import replacing

from .. import FOLDER
from ._task import Batch, Task

Floats = NDArray[np.float32]

# Returns of a random policy and of an expert, as D4RL has them (arXiv 2004.07219).
REFERENCE = {"hopper": (-20.272305, 3234.3), "walker2d": (1.629008, 4592.3), "halfcheetah": (-280.178953, 12135.0)}
ENVIRONMENT = {"hopper": "Hopper-v5", "walker2d": "Walker2d-v5", "halfcheetah": "HalfCheetah-v5"}
RETURN_SCALE = 1000.0
MINARI = "minari:"


@dataclass(frozen=True)
class Episode:
    """One episode of L steps."""

    observations: Floats  # (L, S)
    actions: Floats  # (L, A)
    rewards: Floats  # (L,)

    @property
    def score(self) -> float:
        """Its return."""
        return float(self.rewards.sum())


@dataclass(frozen=True)
class Trajectories(Task):
    """The action at every step of windows of episodes, from the return that is still to come, the observation and the
    action before (after arXiv 2106.01345, whose models see them as three tokens; here they are one).

    Arguments:
        body: "hopper", "walker2d" or "halfcheetah"; "random hopper" is made on the spot with random actions.
        context: steps T of a window, at most; they begin anywhere.
        below: episodes of this D4RL-normalised score and more are left out, so that imitating the best of the data is
            not all that there is to reach.
        best: share of the remaining episodes that is kept, those with the highest return.
        conditioned: the return to come is an input; else 0 stands there.
    """

    body: str = "hopper"
    context: int = 20
    below: float = 60.0
    best: float = 1.0
    conditioned: bool = True

    real = True
    real_targets = True
    tolerance = 0.1

    @property
    def inputs(self) -> int:  # type: ignore[override]
        first = chosen(self)[0]
        return 1 + int(first.observations.shape[1] + first.actions.shape[1])

    @property
    def outputs(self) -> int:  # type: ignore[override]
        return int(chosen(self)[0].actions.shape[1])

    def batch(self, rng: np.random.Generator, size: int) -> Batch:
        episodes = chosen(self)
        lengths = np.array([len(one.rewards) for one in episodes])
        inputs = np.zeros((size, self.context, self.inputs), dtype=np.float32)
        actions = np.zeros((size, self.context, self.outputs), dtype=np.float32)
        scored = np.zeros((size, self.context), dtype=bool)
        for row, number in enumerate(rng.choice(len(episodes), size, p=lengths / lengths.sum())):
            features, targets = encoded(self)[number]
            start = rng.integers(0, lengths[number])
            T = min(self.context, lengths[number] - start)
            inputs[row, :T] = features[start : start + T]
            actions[row, :T] = targets[start : start + T]
            scored[row, :T] = True
        return Batch(torch.from_numpy(inputs), torch.from_numpy(scored), torch.from_numpy(actions[scored]))

    def features(self, to_come: Any, observations: Any, before: Any) -> Floats:
        """Inputs (..., 1 + S + A) of returns to come (...,), observations (..., S) and actions before (..., A)."""
        mean, deviation = statistics(self)
        to_come = np.asarray(to_come, dtype=np.float32)[..., None] / RETURN_SCALE
        parts = [to_come if self.conditioned else np.zeros_like(to_come), (observations - mean) / deviation, before]
        inputs: Floats = np.concatenate(parts, axis=-1).astype(np.float32)
        return inputs


def normalised(body: str, score: float) -> float:
    """A return as D4RL's score: 0 is random, 100 an expert."""
    low, high = REFERENCE[body.removeprefix("random ")]
    return 100 * (score - low) / (high - low)


@cache
def chosen(task: Trajectories) -> list[Episode]:
    """The episodes that a task keeps."""
    episodes = [one for one in read(task.body) if normalised(task.body, one.score) < task.below]
    if not episodes:
        raise UserError(f"no episode of {task.body} has a normalised score below {task.below:g}; collect others")
    episodes.sort(key=lambda one: one.score, reverse=True)
    return episodes[: max(1, round(task.best * len(episodes)))]


@cache
def encoded(task: Trajectories) -> list[tuple[Floats, Floats]]:
    """Inputs and actions of each episode."""
    found = []
    for one in chosen(task):
        to_come = one.rewards[::-1].cumsum()[::-1]
        before = np.vstack([np.zeros_like(one.actions[:1]), one.actions[:-1]])
        found.append((task.features(to_come, one.observations, before), one.actions))
    return found


@cache
def statistics(task: Trajectories) -> tuple[Floats, Floats]:
    """Mean and deviation of the observations, (S,) each."""
    everything = np.vstack([one.observations for one in chosen(task)])
    return everything.mean(axis=0), everything.std(axis=0) + 1e-3


def source(body: str, below: float) -> str:
    """How many `chosen` keeps, with a checksum of all: `11 of 42 episodes (sha256 0a1b2c3d4e5f)`."""
    digest = hashlib.sha256()
    for one in read(body):
        for part in (one.observations, one.actions, one.rewards):
            digest.update(part.tobytes())
    kept = len(chosen(Trajectories(body=body, below=below)))
    return f"{kept} of {len(read(body))} episodes (sha256 {digest.hexdigest()[:12]})"


def read(body: str) -> list[Episode]:
    """The episodes of a body, from its file in the folder of --trajectories; or from a Minari data set, named
    `minari:ID` in place of the folder."""
    return _read(body, os.environ.get(FOLDER, "data/trajectories"))


@cache
def _read(body: str, place: str) -> list[Episode]:
    if body.startswith("random "):
        from .._collect import random_episodes

        return random_episodes(ENVIRONMENT[body.removeprefix("random ")], 4)
    if place.startswith(MINARI):
        return _read_minari(place.removeprefix(MINARI).format(body=body))
    path = file_of(body, Path(place))
    if path is None:
        raise UserError(
            f"there is no {body}.npz in {place}; give the folder with --trajectories, or make the files with --collect"
        )
    return read_episodes(path)


def file_of(body: str, folder: Path) -> Path | None:
    """The file of a body's episodes, or None where the folder has none."""
    names = (f"{body}.npz", f"rl_{body}_mixed.npz")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def write_episodes(path: Path, episodes: Sequence[Episode], **others: Any) -> None:
    """A file that `read_episodes` reads, with other arrays beside."""
    ends = np.concatenate([np.arange(len(one.rewards)) == len(one.rewards) - 1 for one in episodes])
    arrays: dict[str, Any] = {
        "observations": np.vstack([one.observations for one in episodes]),
        "actions": np.vstack([one.actions for one in episodes]),
        "rewards": np.concatenate([one.rewards for one in episodes]),
        "terminals": ends,
        "timeouts": np.zeros_like(ends),
    }
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays, **others)


def read_episodes(path: Path) -> list[Episode]:
    """The episodes of a file of arrays observations (N, S), actions (N, A), rewards, terminals and timeouts (N,)."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("observations", "actions", "rewards", "terminals", "timeouts")}
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise UserError(f"{path} is no file of trajectories: {error}") from error
    if not all(np.isfinite(arrays[name]).all() for name in ("observations", "actions", "rewards")):
        raise UserError(f"{path} has values that are not finite")
    ends = np.flatnonzero(arrays["terminals"] | arrays["timeouts"]) + 1
    episodes, start = [], 0
    for end in ends:
        parts = (arrays[name][start:end].astype(np.float32) for name in ("observations", "actions", "rewards"))
        episodes.append(Episode(*parts))
        start = end
    return episodes


def _read_minari(name: str) -> list[Episode]:
    try:
        import minari
    except ImportError:
        raise UserError("Minari data sets need the package; run pip install 'minari[hdf5]'") from None
    try:
        episodes = minari.load_dataset(name, download=True).iterate_episodes()
    except Exception as error:  # what is raised depends on where Minari looks: its own, those of files, of the network
        raise UserError(f"--trajectories {MINARI}{name} cannot be loaded: {error}") from error
    return [
        Episode(
            one.observations[: len(one.rewards)].astype(np.float32),
            one.actions.astype(np.float32),
            one.rewards.astype(np.float32),
        )
        for one in episodes
    ]
