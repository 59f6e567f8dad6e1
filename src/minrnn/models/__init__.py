"""Blocks, stacks of them, and models with a head."""

from ._block import Block, BlockState, Norm
from ._decision import DecisionModel
from ._language import LanguageModel, LanguageModelConfig
from ._pattern import parse_pattern
from ._stack import Stack

__all__ = [
    "Block",
    "BlockState",
    "DecisionModel",
    "LanguageModel",
    "LanguageModelConfig",
    "Norm",
    "Stack",
    "parse_pattern",
]
