from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..fused import Linear
from ..mixers import exempt_from_weight_decay
from ._block import Norm
from ._pattern import parse_pattern
from ._stack import Stack, StackState


@dataclass(frozen=True)
class LanguageModelConfig:
    """Everything that decides a language model's parameters.

    Raises:
        ValueError: a value is out of range, or the pattern cannot be read; the message says which.
    """

    vocabulary_size: int  # V
    width: int = 384  # D
    pattern: str = "mingru*6"
    expansion: float | None = None  # hidden width of the recurrences over D; None: of each mixer its own
    conv: int = 4  # steps that each block's convolution sees; 0: none
    mlp: float = 4.0  # hidden width of each block's MLP over D; 0: none
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, lowest in (("vocabulary_size", 1), ("width", 1), ("conv", 0), ("mlp", 0)):
            if not lowest <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; expected {lowest} or more")
        if self.expansion is not None and not 0 < self.expansion < math.inf:
            raise ValueError(f"expansion is {self.expansion}; expected more than 0, and finite")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; expected 0 or more and less than 1")
        parse_pattern(self.pattern)


class LanguageModel(nn.Module):
    """Predicts the next token: embedding, `Stack`, norm, Linear(D, V).

    Call: `logits, state = model(tokens, state=None, reset=None)`
        tokens: (B, T), int64, 0 <= token < V.
        state: of the tokens before, from an earlier call; None at the start. Its size does not depend on how many
            those were, if `constant_state`: that is so unless there is attention without a window.
        reset: (B, T) bool; where it is true, a new text starts at step t.
        logits: (B, T, V).

    Raises:
        ValueError, TypeError: tokens or reset do not fit.

    Example:
        >>> model = LanguageModel(LanguageModelConfig(vocabulary_size=65, width=64, pattern="mingru*2"))
        >>> logits, state = model(torch.randint(65, (8, 100)))
        >>> next_logits, state = model(logits[:, -1:].argmax(-1), state)   # one step at a time from here
    """

    def __init__(self, config: LanguageModelConfig) -> None:
        super().__init__()
        self.config = config
        V, D = config.vocabulary_size, config.width
        self.embedding = nn.Embedding(V, D)
        self.stack = Stack(
            D,
            config.pattern,
            expansion=config.expansion,
            conv=config.conv,
            mlp=config.mlp,
            dropout=config.dropout,
        )
        self.norm = Norm(D)
        self.head = Linear(D, V, bias=False)
        exempt_from_weight_decay(self.embedding.weight)
        self._initialise()

    def _initialise(self) -> None:
        """What writes to the residual stream is scaled by its depth, as in GPT-2; mixers initialise themselves."""
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.head.weight, std=0.02)
        for block in self.stack.blocks:
            block.scale_output((2 * len(self.stack.blocks)) ** -0.5)  # type: ignore[operator]

    def forward(
        self, tokens: Tensor, state: StackState | None = None, reset: Tensor | None = None
    ) -> tuple[Tensor, StackState]:
        """tokens (B, T) -> logits (B, T, V), state."""
        y, state = self.features(tokens, state, reset)
        return self.head(y), state

    def features(
        self, tokens: Tensor, state: StackState | None = None, reset: Tensor | None = None
    ) -> tuple[Tensor, StackState]:
        """What the last norm gives, from which `head` predicts: tokens (B, T) -> (B, T, D), state."""
        if tokens.dim() != 2:
            raise ValueError(f"tokens has shape {tuple(tokens.shape)}; expected (B, T)")
        if tokens.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"tokens has dtype {tokens.dtype}; expected torch.int64: call .long() on it")
        try:
            x = self.embedding(tokens)  # (B, T, D)
        except IndexError:
            V = self.config.vocabulary_size
            raise ValueError(
                f"tokens run from {int(tokens.min())} to {int(tokens.max())}; expected 0 <= token < V = {V}"
            ) from None
        x = F.dropout(x, self.config.dropout, self.training)
        x, state = self.stack(x, state, reset)
        return self.norm(x), state

    @property
    def constant_state(self) -> bool:
        """Whether the state has one size, however much was read."""
        return self.stack.constant_state

    def initial_state(self, batch_size: int) -> StackState:
        """The state before the first token, for B = batch_size: what `state=None` stands for."""
        return self.stack.initial_state(batch_size)
