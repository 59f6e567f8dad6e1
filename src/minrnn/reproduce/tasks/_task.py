from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import numpy as np
from torch import Tensor

SEED = 2410_01201  # of what models are measured on; those of training are small numbers


class Batch(NamedTuple):
    """B sequences of T steps, of which N steps in all have a target."""

    inputs: Tensor  # (B, T) int64, or (B, T, D_in) float32
    scored: Tensor  # (B, T) bool
    targets: Tensor  # (N,) int64, or (N, outputs) float32; row by row


class Task(ABC):
    """Draws sequences with targets."""

    inputs: int
    """Size V of the vocabulary, or features D_in if `real`."""
    outputs: int
    """Classes, or numbers to regress if `real_targets`."""
    real: ClassVar[bool] = False
    real_targets: ClassVar[bool] = False
    tolerance: ClassVar[float] = 0.0
    """How far from a real target an output may be and count as right."""
    whole: bool = False
    """Whether a sequence is right only where all its steps are; else every step counts for itself."""

    @abstractmethod
    def batch(self, rng: np.random.Generator, size: int) -> Batch:
        """B = size sequences of training."""

    def held_out(self, sequences: int, size: int) -> Iterator[Batch]:
        """What a model is measured on, in batches of `size`: the same whoever asks."""
        rng = np.random.default_rng(SEED)
        for start in range(0, sequences, size):
            yield self.batch(rng, min(size, sequences - start))
