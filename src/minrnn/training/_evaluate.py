"""How well a model predicts a text: every token but the first, in order, the state carried from beginning to end."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn

from minrnn.errors import UserError

from ._precision import autocast

CHUNK = 4096  # tokens in one call; the state is carried, so this changes speed and memory but not the meaning


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
    precision: str = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Predict each of `tokens` (N,) from all before it: N - 1 predictions, one stream, the state carried throughout.

    Arguments:
        characters: how many characters tokens 1 to N - 1 stand for; N - 1 by default, as for a character tokenizer.
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
        total, state = 0.0, None
        for start in range(0, predictions, CHUNK):
            piece = torch.from_numpy(tokens[start : start + CHUNK + 1].astype(np.int64)).to(device)
            with autocast(device, precision):
                logits, state = model(piece[None, :-1], state)
            total += F.cross_entropy(logits[0].float(), piece[1:], reduction="sum").item()
            if progress is not None:
                progress(min(start + CHUNK, predictions), predictions)
    finally:
        model.train(was_training)
    return Evaluation(total / predictions, total / math.log(2) / max(characters or predictions, 1), predictions)
