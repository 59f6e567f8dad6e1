from __future__ import annotations

import dataclasses
from typing import ClassVar

from transformers import PretrainedConfig

from minrnn.models import LanguageModelConfig, parse_pattern


class MinRNNConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """What decides a `MinRNNForCausalLM`: the fields of `LanguageModelConfig`, and where a text begins.

    Args:
        vocab_size: V.
        width, pattern, expansion, conv, mlp, dropout: as in `LanguageModelConfig`.
        bos_token_id: what stands before a text, and what `generate` without a prompt begins with.

    Example:
        >>> MinRNNConfig(vocab_size=65, width=64, pattern="mingru*2").num_hidden_layers
        2
    """

    model_type: ClassVar[str] = "minrnn"
    attribute_map: ClassVar[dict[str, str]] = {"hidden_size": "width"}
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["state"]  # `Trainer` would gather it as a prediction

    vocab_size: int = 256
    width: int = 384
    pattern: str = "mingru*6"
    expansion: float | None = None
    conv: int = 4
    mlp: float = 4.0
    dropout: float = 0.0
    bos_token_id: int | None = None
    tie_word_embeddings: bool = False

    @property
    def num_hidden_layers(self) -> int:
        """Blocks L."""
        return len(parse_pattern(self.pattern))

    def architecture(self) -> LanguageModelConfig:
        """The same for `LanguageModel`. Raises ValueError for a value out of range or a pattern that none can read."""
        names = {field.name for field in dataclasses.fields(LanguageModelConfig)} - {"vocabulary_size"}
        return LanguageModelConfig(vocabulary_size=self.vocab_size, **{name: getattr(self, name) for name in names})
