"""Tasks in which something from long ago is asked for by its name or its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from ._task import Batch, Task


@dataclass(frozen=True)
class MultiQueryRecall(Task):
    """MQAR (arXiv 2312.04927): pairs of key and value, then some of the keys again, whose values are asked for.

    Keys 1 to V/2 - 1, values V/2 to V - 1, each once in a sequence; padding 0. A question comes at an even distance
    after the pairs, near more often than far: with weight a i^(a-1), a = 0.01. `length` >= 4 `pairs`.
    """

    length: int = 64
    pairs: int = 4
    vocabulary: int = 256

    @property
    def inputs(self) -> int:  # type: ignore[override]
        return self.vocabulary

    outputs = inputs

    def batch(self, rng: np.random.Generator, size: int) -> Batch:
        V, context = self.vocabulary, 2 * self.pairs
        places = (self.length - context) // 2
        near = 0.01 * np.arange(1, places + 1) ** (0.01 - 1)
        near /= near.sum()
        keys, values, gaps = (
            np.stack([rng.choice(choices, self.pairs, replace=False, p=weights) for _ in range(size)])
            for choices, weights in (
                (np.arange(1, V // 2), None),
                (np.arange(V // 2, V), None),
                (np.arange(places), near),
            )
        )
        inputs = np.zeros((size, self.length), dtype=np.int64)
        inputs[:, :context:2], inputs[:, 1:context:2] = keys, values
        asked = context + 2 * gaps
        np.put_along_axis(inputs, asked, keys, axis=1)
        answers = np.full(inputs.shape, -1)
        np.put_along_axis(answers, asked, values, axis=1)
        scored = answers >= 0
        return Batch(torch.from_numpy(inputs), torch.from_numpy(scored), torch.from_numpy(answers[scored]))


@dataclass(frozen=True)
class OneQuestion(Task):
    """Pairs of key and value and one question, which comes "before" them, so that the model may listen for its key
    alone, or "after" them, so that it must have kept everything.

    Tokens: keys 0 to K - 1, values K to 2K - 1, for K = vocabulary / 2 - 1; a mark in front of the asked key, and one
    at which the answer is due. Both orders have the same tokens.
    """

    pairs: int = 16
    question: Literal["before", "after"] = "after"
    vocabulary: int = 130

    @property
    def inputs(self) -> int:  # type: ignore[override]
        return self.vocabulary

    outputs = inputs

    def batch(self, rng: np.random.Generator, size: int) -> Batch:
        K = self.vocabulary // 2 - 1
        keys = rng.permuted(np.tile(np.arange(K), (size, 1)), axis=1)[:, : self.pairs]
        values = rng.integers(K, 2 * K, (size, self.pairs))
        text = np.stack([keys, values], axis=2).reshape(size, -1)
        asked = rng.integers(0, self.pairs, size)
        rows = np.arange(size)
        question = np.stack([np.full(size, 2 * K), keys[rows, asked]], axis=1)
        answer = np.full((size, 1), 2 * K + 1)
        parts = [question, text, answer] if self.question == "before" else [text, question, answer]
        inputs = np.hstack(parts)
        scored = torch.zeros(inputs.shape, dtype=torch.bool)
        scored[:, -1] = True
        return Batch(torch.from_numpy(inputs), scored, torch.from_numpy(values[rows, asked]))


@dataclass(frozen=True)
class Copying(Task):
    """A text of `shortest` to `longest` letters, a bar, and the text again (arXiv 2402.01032): the second is learned.

    One length for each batch. While it copies, the model is given what it should have said: all is right exactly where
    it would be right on its own.
    """

    shortest: int = 5
    longest: int = 20

    inputs = 27
    outputs = 27

    def batch(self, rng: np.random.Generator, size: int) -> Batch:
        length = int(rng.integers(self.shortest, self.longest + 1))
        text = rng.integers(0, 26, (size, length))
        inputs = np.hstack([text, np.full((size, 1), 26), text[:, :-1]])
        scored = torch.zeros(inputs.shape, dtype=torch.bool)
        scored[:, length:] = True
        return Batch(torch.from_numpy(inputs), scored, torch.from_numpy(text).flatten())
