"""Which windows a step learns from, and all random numbers: functions of (seed, step, rank), so nothing is saved."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def seed_of(*numbers: int) -> int:
    """One 64-bit seed for several numbers, such as (seed, step, rank); the same on every machine."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def draw_windows(tokens: NDArray[np.integer], context: int, batch: int, seed: int, step: int) -> Tensor:
    """The (B, T + 1) int64 windows of update `step`, drawn evenly from all places of `tokens`; T is `context`.

    Inputs are `[:, :-1]`, targets `[:, 1:]`. Processes do not matter here: each takes its rows of this one batch.
    """
    starts = np.random.default_rng(np.random.SeedSequence((seed, step))).integers(0, len(tokens) - context, size=batch)
    return torch.from_numpy(tokens[starts[:, None] + np.arange(context + 1)].astype(np.int64))
