"""What a language model makes of a given text: how likely it is, what it is about, and the state to go on from."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from minrnn.data import Tokenizer
from minrnn.errors import UserError
from minrnn.models import LanguageModel
from minrnn.models._stack import StackState

from ._evaluate import CHUNK
from ._run import Run
from ._state_file import load_tree, save_tree


class TextState(NamedTuple):
    """Where a model is after some text: all that it keeps of it, and what it expects next.

    Attributes:
        state: of the stack, for B = 1.
        logits: of the next token, (1, V).
    """

    state: StackState
    logits: Tensor

    def repeated(self, batch: int) -> TextState:
        """The same for B = batch."""
        whole: TextState = tree_map_only(Tensor, lambda one: one.repeat(batch, *[1] * (one.dim() - 1)), self)
        return whole  # the window of a block without a convolution is no tensor


@dataclass(frozen=True)
class Reading:
    """What a model made of a text of T tokens.

    Attributes:
        tokens: (T,) int64.
        log_probabilities: of each token, from all before it, in nats, (T,) float64.
        embedding: mean over the tokens of what the last norm gives, (D,) float32.
        end: the state after the text.
    """

    tokens: np.ndarray
    log_probabilities: np.ndarray
    embedding: np.ndarray
    end: TextState

    @property
    def log_probability(self) -> float:
        """Of the whole text, in nats."""
        return float(self.log_probabilities.sum())

    @property
    def perplexity(self) -> float:
        """e to the mean surprise at a token."""
        return math.exp(-float(self.log_probabilities.mean()))


@torch.inference_mode()
def read(model: LanguageModel, tokenizer: Tokenizer, text: str, after: TextState | None = None) -> Reading:
    """Read a text, from its beginning or `after` another.

    A text begins after a newline, as in `generate`, so that its first token has a probability too. The model is left
    in evaluation mode.

    Raises:
        UserError: there is nothing in the text, or characters that the tokenizer does not have.

    Example: `read(run.model, run.tokenizer, "To be, or not to be").perplexity`
    """
    if not text:
        raise UserError("the text to read is empty; expected one character or more")
    model.eval()
    device = next(model.parameters()).device
    after = after or start_of_text(model, tokenizer)
    tokens = tokenizer.encode(text).astype(np.int64)
    state, expected = after.state, after.logits[:, None]  # (1, 1, V)
    surprise, total = [], torch.zeros(model.config.width, dtype=torch.float64, device=device)
    for start in range(0, len(tokens), CHUNK):
        piece = torch.from_numpy(tokens[start : start + CHUNK])[None].to(device)  # (1, T)
        features, state = model.features(piece, state)  # (1, T, D)
        logits = model.head(features)
        before = torch.cat([expected, logits[:, :-1]], dim=1).double().log_softmax(dim=-1)  # (1, T, V)
        surprise.append(before.gather(2, piece[:, :, None])[0, :, 0].cpu().numpy())
        total += features[0].double().sum(dim=0)
        expected = logits[:, -1:]
    return Reading(
        tokens=tokens,
        log_probabilities=np.concatenate(surprise),
        embedding=(total / len(tokens)).float().cpu().numpy(),
        end=TextState(state, expected[:, 0]),
    )


@torch.inference_mode()
def start_of_text(model: LanguageModel, tokenizer: Tokenizer) -> TextState:
    """Where a text begins."""
    device = next(model.parameters()).device
    logits, state = model(torch.from_numpy(beginning(tokenizer).astype(np.int64))[None].to(device))
    return TextState(state, logits[:, -1])


def beginning(tokenizer: Tokenizer) -> np.ndarray:
    """What stands before a text: a newline; the first token where the tokenizer has none."""
    try:
        return tokenizer.encode("\n")
    except UserError:
        return np.zeros(1, np.int64)


def save_state(path: str | os.PathLike[str], state: TextState, run: Run) -> None:
    """Keep a state in a file, from which `load_state` brings it back for the same run, in any precision.

    Raises UserError where the file cannot be written.
    """
    save_tree(path, state, run.digest)


def load_state(path: str | os.PathLike[str], run: Run) -> TextState:
    """The state in a file. Raises UserError where it is missing, damaged, or of another run."""
    weight = run.model.head.weight
    like = TextState(run.model.initial_state(1), weight.new_zeros(1, len(weight)))
    state: TextState = load_tree(path, like, run.digest)
    return state
