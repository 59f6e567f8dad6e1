"""Text to learn from, tokens to learn it in, and the n-gram to beat.

text = load_text("shakespeare")
tokenizer = build_tokenizer("characters", text)
ids = tokenizer.encode(text.train)  # (1003854,) int32
order, bits = best_ngram(text.train, text.held_out)  # (5, 2.408)
"""

from ._ngram import best_ngram
from ._text import Text, load_text
from ._tokenizer import TextStream, Tokenizer
from ._tokenizers import (
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    build_tokenizer,
    load_tokenizer,
    tokenizer_from_json,
)

__all__ = [
    "BPETokenizer",
    "ByteTokenizer",
    "CharacterTokenizer",
    "Text",
    "TextStream",
    "Tokenizer",
    "best_ngram",
    "build_tokenizer",
    "load_text",
    "load_tokenizer",
    "tokenizer_from_json",
]
