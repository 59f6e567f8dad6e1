"""How well a model predicts a text: every token but the first, from all before it, or from the newest of them where the
model's state grows with what it has read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from minrnn.errors import UserError

from ._precision import autocast

CHUNK = 4096  # tokens in one call; the state is carried, so this changes speed and memory but not the meaning
CONTEXT = 256  # tokens of a window, where nothing else is said


@dataclass(frozen=True)
class Evaluation:
    """Mean surprise over the `tokens` predicted tokens. Characters make figures of different tokenizers comparable."""

    nats_per_token: float
    bits_per_character: float
    tokens: int


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    tokens: NDArray[np.integer],
    *,
    characters: int | None = None,
    context: int = CONTEXT,
    precision: str = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Predict each of `tokens` (N,) but the first: N - 1 predictions.

    A model of constant state reads one stream, and predicts from all tokens before. Where `model.constant_state` is
    false, as with attention in it, each prediction is made from the newest tokens, at least half of `context` and at
    most all of it: what the model was trained for, and linear in N.

    Arguments:
        characters: how many characters tokens 1 to N - 1 stand for; N - 1 by default, as for a character tokenizer.
        context: tokens that a model whose state grows may see. Default 256.
        precision: "float32", or "bfloat16" for autocast.
        progress: called with (tokens done, tokens in all) after each chunk.

    Example: `evaluate(run.model, run.tokenizer.encode("To be, or not to be")).nats_per_token`

    Raises UserError for fewer than two tokens. The model's training mode is restored.
    """
    predictions = len(tokens) - 1
    if predictions < 1:
        raise UserError(
            f"the text to evaluate has {len(tokens)} tokens; at least 2 are needed, one to read and one to predict"
        )
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        ids = torch.from_numpy(tokens.astype(np.int64)).to(device)
        predicted = _stream(model, ids) if getattr(model, "constant_state", True) else _windows(model, ids, context)
        total, done = 0.0, 0
        with autocast(device, precision):
            for logits, targets in predicted:
                total += F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum").item()
                done += targets.numel()
                if progress is not None:
                    progress(done, predictions)
    finally:
        model.train(was_training)
    return Evaluation(total / predictions, total / math.log(2) / max(characters or predictions, 1), predictions)


def _stream(model: nn.Module, ids: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits (1, T, V) and the tokens that they predict, (1, T), from beginning to end."""
    state: Any = None
    for start in range(0, len(ids) - 1, CHUNK):
        piece = ids[None, start : start + CHUNK + 1]
        logits, state = model(piece[:, :-1], state)
        yield logits, piece[:, 1:]


def _windows(model: nn.Module, ids: Tensor, context: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Of windows of `context` tokens, each half a window after the one before, what is new: (B, T, V) and (B, T)."""
    stride = max(context // 2, 1)
    last = len(ids) - 1
    windows = []  # begin, where the new part begins, end
    for start in range(0, last, stride):
        windows.append((max(0, start + stride - context), start, min(start + stride, last)))
    for (_, old), alike in groupby(windows, key=lambda window: (window[2] - window[0], window[1] - window[0])):
        rows = list(alike)
        for n in range(0, len(rows), max(CHUNK // context, 1)):
            pieces = torch.stack([ids[begin : end + 1] for begin, _, end in rows[n : n + max(CHUNK // context, 1)]])
            yield model(pieces[:, :-1])[0][:, old:], pieces[:, old + 1 :]
