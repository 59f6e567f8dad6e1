"""The tokenizers of minrnn as transformers has them, and back."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from minrnn.data import BPETokenizer, ByteTokenizer, CharacterTokenizer
from minrnn.data import Tokenizer as OfMinRNN
from minrnn.data._tokenizers import NAMES
from minrnn.errors import UserError

PADDING = "<padding token>"  # with spaces, which no token of a text has in these vocabularies
DECIDING = ("normalizer", "pre_tokenizer", "model", "post_processor", "decoder")  # what a text becomes


def to_transformers(tokenizer: OfMinRNN) -> PreTrainedTokenizerFast:
    """A tokenizer of minrnn as transformers has it: the same ids for every text, and the same text for all ids.

    One token is added, for padding: V, which stands on the left, and which no text has, not even one with its name.
    Nothing is put before a text.

    Differences: a character that is not in the alphabet raises the exception of the `tokenizers` library, and lone
    surrogates, for which `ByteTokenizer` has bytes, raise one as well.

    Example: `to_transformers(ByteTokenizer())("é").input_ids` is `[195, 169]`
    """
    record = tokenizer.to_json()
    if tokenizer.kind == CharacterTokenizer.kind:
        found = Tokenizer(models.WordLevel({one: token for token, one in enumerate(record["characters"])}, "<unknown>"))
        found.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
        found.decoder = decoders.Fuse()
    else:
        bytes_of = map(tokenizer.token_bytes, range(tokenizer.vocabulary_size))
        names = ["".join(NAMES[value] for value in token) for token in bytes_of]
        merges = [(names[left], names[right]) for left, right in record.get("merges", [])]
        found = Tokenizer(models.BPE({name: token for token, name in enumerate(names)}, merges))
        words = tokenizer.kind == BPETokenizer.kind  # split off first
        found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=words)
        found.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=found,
        pad_token=PADDING,
        padding_side="left",
        split_special_tokens=True,  # a text that has the name of the padding token is text
        clean_up_tokenization_spaces=False,
    )


def from_transformers(tokenizer: PreTrainedTokenizerFast) -> OfMinRNN:
    """The tokenizer of minrnn that `to_transformers` gave. Raises UserError where there is none that does the same."""
    given = _deciding(tokenizer)
    try:
        model, splitting = given["model"], given["pre_tokenizer"]
        vocabulary: dict[str, int] = model["vocab"]
        found: OfMinRNN
        if model["type"] == "WordLevel":
            found = CharacterTokenizer("".join(vocabulary))
        elif splitting["use_regex"]:
            found = BPETokenizer((vocabulary[left], vocabulary[right]) for left, right in model["merges"])
        else:
            found = ByteTokenizer()
        same = _deciding(to_transformers(found)) == given
    except (KeyError, TypeError, ValueError):
        same = False
    if not same:
        raise UserError(
            "the tokenizer is not one of minrnn (characters, bytes or bpe), and no other can be kept in a run; train a "
            "model with one of those, whose tokenizer minrnn.hf.to_transformers gives"
        )
    return found


def _deciding(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return {name: record[name] for name in DECIDING}
