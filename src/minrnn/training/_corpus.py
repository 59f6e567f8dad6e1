"""The text of a run as token ids."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minrnn.data import Tokenizer, build_tokenizer, load_text
from minrnn.data._huggingface import PREFIX
from minrnn.data._text import NAMED
from minrnn.errors import UserError

from ._config import TrainConfig


@dataclass(frozen=True)
class Corpus:
    """Token ids of both parts; `held_out_characters` is how many characters the predicted held-out tokens stand for."""

    tokenizer: Tokenizer
    train: NDArray[np.integer]
    held_out: NDArray[np.integer]
    held_out_characters: int
    sha256: str


def lasting(source: str) -> str:
    """A source of text as it is named from any folder. A known name stays: `load_text` prefers it to a file."""
    if source in NAMED or source.startswith(PREFIX) or not os.path.exists(source):
        return source
    return os.path.abspath(source)


def load_corpus(config: TrainConfig, tokenizer: Tokenizer | None = None) -> Corpus:
    """Read `config.data`, and train a tokenizer on it unless one is given. Raises UserError for too little text."""
    text = load_text(config.data, tokens=config.tokens)
    tokenizer = tokenizer or build_tokenizer(config.tokens, text)
    train, held_out = tokenizer.encode(text.train), tokenizer.encode(text.held_out)
    if len(train) <= config.context:
        raise UserError(
            f"the training part of {config.data} has {len(train)} tokens, fewer than a window of {config.context + 1}: "
            f"give more text or a --context below {len(train)}"
        )
    if len(held_out) < 2:
        raise UserError(
            f"the held-out tenth of {config.data} has {len(held_out)} tokens; at least 2 are needed: give more text"
        )
    characters = predicted_characters(tokenizer, text.held_out, held_out)
    return Corpus(tokenizer, train, held_out, characters, digest(train, held_out))


def digest(train: NDArray[np.integer], held_out: NDArray[np.integer]) -> str:
    """By which the ids of a text and where it is parted are known again."""
    return hashlib.sha256(train.tobytes() + b"|" + held_out.tobytes()).hexdigest()


def predicted_characters(tokenizer: Tokenizer, text: str, ids: NDArray[np.integer]) -> int:
    """The characters of `text` without those of its first token, which nothing predicts."""
    return len(text) - len(tokenizer.decode(ids[:1]))
