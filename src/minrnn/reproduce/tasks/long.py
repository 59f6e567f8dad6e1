"""Tasks whose answer depends on something long ago, with nothing else in the way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from minrnn.errors import UserError

from ._task import Batch, Task


@dataclass(frozen=True)
class Adding(Task):
    """Numbers of [0, 1) with a mark at one of each half; asked for at the end is the sum of the marked two (Hochreiter
    and Schmidhuber 1997). Always saying 1 gives a squared error of 0.1667; right is what is off by 0.04 at most.
    """

    length: int = 400

    inputs = 2
    outputs = 1
    real = True
    real_targets = True
    tolerance = 0.04

    def batch(self, rng: np.random.Generator, size: int) -> Batch:
        T, rows = self.length, np.arange(size)
        values = rng.random((size, T))
        marks = np.zeros_like(values)
        marks[rows, rng.integers(0, T // 2, size)] = 1
        marks[rows, rng.integers(T // 2, T, size)] = 1
        inputs = torch.from_numpy(np.stack([values, marks], axis=2)).float()
        scored = torch.zeros(size, T, dtype=torch.bool)
        scored[:, -1] = True
        return Batch(inputs, scored, torch.from_numpy((values * marks).sum(axis=1, keepdims=True)).float())


@dataclass(frozen=True)
class CopyMemory(Task):
    """Ten tokens, `length` zeros, and the ten again after a mark (arXiv 1511.06464): T + 20 steps, of which the last
    ten are scored. Tokens 1 to 8, zeros 0, mark 9.
    """

    length: int = 100

    inputs = 10
    outputs = 9

    def batch(self, rng: np.random.Generator, size: int) -> Batch:
        data = rng.integers(1, 9, (size, 10))
        inputs = np.zeros((size, self.length + 20), dtype=np.int64)
        inputs[:, :10] = data
        inputs[:, -10:] = 9
        scored = torch.zeros(inputs.shape, dtype=torch.bool)
        scored[:, -10:] = True
        return Batch(torch.from_numpy(inputs), scored, torch.from_numpy(data).flatten())


@dataclass(frozen=True)
class Digits(Task):
    """The 1,797 handwritten digits of scikit-learn, 8 x 8 grey values read row by row as 64 steps, the class at the
    end. The first 1,438 are for training, the last 359 held out.
    """

    inputs = 1
    outputs = 10
    real = True

    def batch(self, rng: np.random.Generator, size: int) -> Batch:
        pixels, classes = digits()
        chosen = torch.from_numpy(rng.integers(0, 1438, size))
        return self._batch(pixels[chosen], classes[chosen])

    def held_out(self, sequences: int, size: int) -> Iterator[Batch]:
        pixels, classes = digits()
        yield self._batch(pixels[1438:], classes[1438:])

    @staticmethod
    def _batch(pixels: Tensor, classes: Tensor) -> Batch:
        scored = torch.zeros(pixels.shape[:2], dtype=torch.bool)
        scored[:, -1] = True
        return Batch(pixels, scored, classes)


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Pixels (1797, 64, 1), 0 to 1, and classes (1797,)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UserError("the digits come with scikit-learn; run pip install 'minrnn[reproduce]'") from None
    data = load_digits()
    return torch.from_numpy(data.data / 16).float()[..., None], torch.from_numpy(data.target).long()
