"""Text from a model: the prompt in one call, then one token at a time from a state of constant size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from minrnn.data import Tokenizer
from minrnn.errors import UserError

from ._reading import TextState, beginning

PROMPT_CHUNK = 4096  # tokens of the prompt read at once; the state is carried


def generate(
    model: nn.Module,
    tokenizer: Tokenizer,
    prompt: str = "",
    tokens: int = 500,
    *,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 0,
    batch: int = 1,
    after: TextState | None = None,
) -> Iterator[list[str]]:
    """Continue `prompt` by so many `tokens`, in `batch` samples at once; yields the next piece of each.

    Arguments:
        prompt: text to continue. A text begins after a newline.
        temperature: below 1 safer, above 1 bolder; 0 takes the likeliest token each time.
        top_k: choose among the so many likeliest tokens; 0 among all.
        top_p: choose among the fewest likeliest tokens that have this probability together; 1 among all.
        seed: same seed, same text.
        after: the state that `prompt` is read from (see `read`), which may be empty then.

    A piece is empty while a character's bytes are not complete. Time and memory per token do not grow with the text,
    but for mixers whose state grows (`attention` without a window, `srupp`). The model is left in evaluation mode.

    Example: `"".join(pieces[0] for pieces in generate(run.model, run.tokenizer, "ROMEO:", tokens=200))`

    Raises UserError, at the call, for options out of range and for characters that the tokenizer does not have.
    """
    for name, value, holds, allowed in (
        ("tokens", tokens, tokens >= 0, "0 or more"),
        ("temperature", temperature, 0 <= temperature < float("inf"), "0 or more"),
        ("top-k", top_k, top_k >= 0, "0 or more"),
        ("top-p", top_p, 0 < top_p <= 1, "more than 0, at most 1"),
        ("seed", seed, 0 <= seed < 2**63, "0 or more"),
        ("batch", batch, batch >= 1, "1 or more"),
    ):
        if not holds:
            raise UserError(f"--{name} is {value}; it takes {allowed}")
    ids = tokenizer.encode(prompt)
    if after is None:
        ids = np.concatenate([beginning(tokenizer), ids])
    return _generate(model, tokenizer, ids.astype(np.int64), tokens, temperature, top_k, top_p, seed, batch, after)


@torch.inference_mode()
def _generate(
    model: nn.Module,
    tokenizer: Tokenizer,
    prompt: np.ndarray,
    tokens: int,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
    batch: int,
    after: TextState | None,
) -> Iterator[list[str]]:
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    model.eval()
    state = None
    if after is not None:
        after = after.repeated(batch)
        state, logits = after.state, after.logits[:, None]
    for start in range(0, len(prompt), PROMPT_CHUNK):
        piece = torch.from_numpy(prompt[start : start + PROMPT_CHUNK]).to(device).expand(batch, -1)  # (B, T)
        logits, state = model(piece, state)
    streams = [tokenizer.stream() for _ in range(batch)]
    chosen = None
    for _ in range(tokens):
        if chosen is not None:
            logits, state = model(chosen, state)
        chosen = choose(logits[:, -1].float(), temperature, top_k, top_p, generator)  # (B, 1)
        yield [stream.push(token) for stream, token in zip(streams, chosen[:, 0].tolist(), strict=True)]
    yield [stream.flush() for stream in streams]


def choose(logits: Tensor, temperature: float, top_k: int, top_p: float, generator: torch.Generator) -> Tensor:
    """One token for each row of logits: (B, V) -> (B, 1) int64."""
    if temperature == 0:
        return logits.argmax(-1, keepdim=True)
    least = torch.finfo(logits.dtype).tiny  # a smaller temperature is 0 in this dtype
    logits = (logits - logits.amax(-1, keepdim=True)) / max(temperature, least)  # none overflows
    if 0 < top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(top_k).values[:, -1:], -torch.inf)
    probabilities = logits.softmax(-1)
    if top_p < 1:
        ordered, order = probabilities.sort(-1, descending=True)
        ordered[ordered.cumsum(-1) - ordered >= top_p] = 0  # the first always stays
        probabilities = torch.zeros_like(probabilities).scatter_(-1, order, ordered)
    return torch.multinomial(probabilities, 1, generator=generator)
