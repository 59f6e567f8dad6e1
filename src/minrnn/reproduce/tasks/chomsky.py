"""Formal languages, as arXiv 2410.01201 takes them: one length for each batch, answers after the text.

The tasks are those of arXiv 2207.02098 with the vocabularies of the authors' code; `EMPTY`, the last token of the
vocabulary, stands where an answer is due. Lengths are those of the text without it.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from ._task import Batch, Task

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class FormalTask(Task):
    """Texts of `shortest` to `longest` tokens, drawn alike, then EMPTY, at which the answer is due."""

    shortest: int = 1
    longest: int = 40

    tokens: ClassVar[int]  # without EMPTY

    @property
    def inputs(self) -> int:  # type: ignore[override]
        return self.tokens + 1

    @abstractmethod
    def draw(self, rng: np.random.Generator, size: int, length: int) -> tuple[Tokens, Tokens]:
        """Texts (B, L) and their answers, (B,) or (B, L)."""

    def batch(self, rng: np.random.Generator, size: int) -> Batch:
        length = int(rng.integers(self.shortest, self.longest + 1))
        text, answers = self.draw(rng, size, length)
        answers = answers.reshape(size, -1)
        empty = np.full(answers.shape, self.tokens)
        scored = torch.zeros(size, text.shape[1] + answers.shape[1], dtype=torch.bool)
        scored[:, text.shape[1] :] = True
        return Batch(torch.from_numpy(np.hstack([text, empty])), scored, torch.from_numpy(answers).flatten())


class _OfAnyText(FormalTask):
    """A task whose texts are of independent tokens."""

    @staticmethod
    @abstractmethod
    def answer(text: Tokens) -> Tokens:
        """text (B, L) -> answers (B,), or (B, L) where each token has one."""

    def draw(self, rng: np.random.Generator, size: int, length: int) -> tuple[Tokens, Tokens]:
        text = rng.integers(0, self.tokens, (size, length))
        return text, self.answer(text)


class BucketSort(_OfAnyText):
    """The tokens in ascending order."""

    tokens = 10
    outputs = 10

    @staticmethod
    def answer(text: Tokens) -> Tokens:
        return np.sort(text, axis=1)


class MissingDuplicate(FormalTask):
    """A text and then its first k tokens again, k drawn for each batch: which is the next?"""

    tokens = 9
    outputs = 9

    def draw(self, rng: np.random.Generator, size: int, length: int) -> tuple[Tokens, Tokens]:
        text = rng.integers(0, self.tokens, (size, length))
        k = int(rng.integers(0, length))
        return np.hstack([text, text[:, :k]]), text[:, k]


class CycleNavigation(_OfAnyText):
    """Where a walk on a circle of five ends: tokens 0, 1, 2 are steps of -1, 0, +1."""

    tokens = 3
    outputs = 5

    @staticmethod
    def answer(text: Tokens) -> Tokens:
        answers: Tokens = (text - 1).sum(axis=1) % 5
        return answers


class EvenPairs(_OfAnyText):
    """Whether the number of unequal neighbours is odd: whether the first token is not the last."""

    tokens = 2
    outputs = 2

    @staticmethod
    def answer(text: Tokens) -> Tokens:
        answers: Tokens = (text[:, 1:] != text[:, :-1]).sum(axis=1) % 2
        return answers


class Majority(_OfAnyText):
    """The most frequent token; among equals the largest."""

    tokens = 63
    outputs = 63

    @staticmethod
    def answer(text: Tokens) -> Tokens:
        answers: Tokens = 62 - counts(text, 63)[:, ::-1].argmax(axis=1)
        return answers


class MajorityCount(_OfAnyText):
    """How often the most frequent token occurs, up to 62 times."""

    tokens = 63
    outputs = 63

    @staticmethod
    def answer(text: Tokens) -> Tokens:
        answers: Tokens = np.minimum(counts(text, 63).max(axis=1), 62)
        return answers


class Parity(_OfAnyText):
    """Whether the number of ones is odd."""

    tokens = 2
    outputs = 2

    @staticmethod
    def answer(text: Tokens) -> Tokens:
        answers: Tokens = text.sum(axis=1) % 2
        return answers


def counts(text: Tokens, tokens: int) -> Tokens:
    """(B, L) -> how often each token occurs, (B, tokens)."""
    size = len(text)
    return np.bincount((text + tokens * np.arange(size)[:, None]).flatten(), minlength=size * tokens).reshape(size, -1)
