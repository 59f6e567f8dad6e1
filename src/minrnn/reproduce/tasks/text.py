from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from minrnn.data import build_tokenizer, load_text

from ._task import Batch, Task


@dataclass(frozen=True)
class Text(Task):
    """The next token at every step of windows of a text.

    Arguments:
        source: as `minrnn.data.load_text` takes it; the last 10 % are held out.
        context: steps T of a window. The held-out part is read once, window after window, each from an empty state.
        share: of the training part that is learned from, its beginning.
        part: what `held_out` goes through: the "held out" part, or the beginning of the "training" part, as long.
    """

    source: str = "shakespeare"
    context: int = 128
    share: float = 1.0
    part: Literal["held out", "training"] = "held out"

    @property
    def inputs(self) -> int:  # type: ignore[override]
        return encoded(self.source)[2]

    outputs = inputs

    def batch(self, rng: np.random.Generator, size: int) -> Batch:
        tokens = encoded(self.source)[0]
        newest = int(self.share * len(tokens)) - self.context
        starts = torch.from_numpy(rng.integers(0, newest, size))
        return _batch(tokens[starts[:, None] + torch.arange(self.context + 1)])

    def held_out(self, sequences: int, size: int) -> Iterator[Batch]:
        train, held_out, _ = encoded(self.source)
        tokens = held_out if self.part == "held out" else train[: len(held_out)]
        T = self.context
        windows = tokens.unfold(0, T + 1, T)
        for start in range(0, min(sequences, len(windows)), size):
            yield _batch(windows[start : min(start + size, sequences)])
        rest = tokens[len(windows) * T :]
        if len(rest) > 1 and sequences > len(windows):
            yield _batch(rest[None])


@cache
def encoded(source: str) -> tuple[Tensor, Tensor, int]:
    """Tokens of both parts and how many kinds there are: characters, or bytes of the many that source code has."""
    tokens = "bytes" if source == "python-library" else "characters"
    text = load_text(source, tokens=tokens)
    tokenizer = build_tokenizer(tokens, text)
    train, held_out = (
        torch.from_numpy(np.array(tokenizer.encode(part))).long() for part in (text.train, text.held_out)
    )
    return train, held_out, tokenizer.vocabulary_size


def _batch(windows: Tensor) -> Batch:
    """windows (B, T + 1)"""
    inputs = windows[:, :-1].contiguous()
    return Batch(inputs, torch.ones(inputs.shape, dtype=torch.bool), windows[:, 1:].flatten())
