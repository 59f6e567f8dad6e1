from __future__ import annotations

from typing import NamedTuple

from ..training import Run, TextState, read
from ..training._reading import start_of_text

LIKELY = 5


class Next(NamedTuple):
    """What a language model says of a piece of text and of what comes after it."""

    log_probability: float
    """Of the piece, from all before it, in nats."""
    likely: dict[str, float]
    """The likeliest next tokens, with their probabilities; those that read the same, as halves of a character do, are
    one.
    """


class TextReader:
    """Reads pieces of text."""

    state: TextState

    def __init__(self, run: Run) -> None:
        self.run = run

    def initial(self) -> TextState:
        return start_of_text(self.run.model, self.run.tokenizer)

    def push(self, value: str) -> Next:
        if not isinstance(value, str):
            raise ValueError(f"the value is of type {type(value).__name__}; expected text (str)")
        found = read(self.run.model, self.run.tokenizer, value, self.state)
        self.state = found.end
        chances = self.state.logits[0].double().softmax(dim=0)
        best = chances.topk(min(LIKELY, len(chances)))
        words: dict[str, float] = {}
        for token, chance in zip(best.indices.tolist(), best.values.tolist(), strict=True):
            word = self.run.tokenizer.decode([token])
            words[word] = words.get(word, 0.0) + chance
        return Next(found.log_probability, words)
