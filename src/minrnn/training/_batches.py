"""Which windows a step learns from, and all random numbers: functions of (seed, step, rank), so nothing is saved."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def seed_of(*numbers: int) -> int:
    """One 64-bit seed for several numbers, such as (seed, step, rank); the same on every machine."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def draw_windows(tokens: NDArray[np.integer[Any]], context: int, batch: int, seed: int, step: int) -> Tensor:
    """The (B, T + 1) int64 windows of update `step`; B is `batch`, T is `context`.

    Inputs are `[:, :-1]`, targets `[:, 1:]`. Each pass over the text cuts it at new places and takes the pieces in a
    new order: with windows from anywhere, a small model ended 0.02 bits per character higher on python-docs. Processes
    do not matter here: each takes its rows of this one batch.
    """
    spare = len(tokens) - 1 - context
    pieces = max(spare // context, 1)  # at least one window is left to shift the cuts by
    passes, places = np.divmod(step * batch + np.arange(batch), pieces)
    starts = np.concatenate(
        [
            _cuts(pieces, context, spare + context - pieces * context, seed, number)[places[passes == number]]
            for number in range(passes[0], passes[-1] + 1)
        ]
    )
    return torch.from_numpy(tokens[starts[:, None] + np.arange(context + 1)].astype(np.int64))


@lru_cache(maxsize=2)
def _cuts(pieces: int, context: int, room: int, seed: int, number: int) -> NDArray[np.int64]:
    """Where the windows of one pass begin, in the order in which they are taken."""
    generator = np.random.default_rng(np.random.SeedSequence((seed, number)))
    return generator.integers(0, room, endpoint=True) + context * generator.permutation(pieces)
