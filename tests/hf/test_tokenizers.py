"""A tokenizer in transformers gives the ids that minrnn's gives, and the text; and it comes back as it was."""

import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from minrnn.data import BPETokenizer, ByteTokenizer, CharacterTokenizer, Tokenizer
from minrnn.errors import UserError
from minrnn.hf import from_transformers, to_transformers
from minrnn.hf._tokenizers import PADDING

HTML = "<pad><s></s><|endoftext|><unk> <p>it's 'you've' 2024</p>"
TEXTS = [
    "",
    " ",
    "\n",
    "  two  spaces,\n\n\nthree newlines\r\n\ttabs \t end ",
    "word . , ! do n't it 's ' '",  # what clean_up_tokenization_spaces would mend
    "e\u0301 é ﬁ Å Å ½",  # what a normalizer would join
    "日本語 русский العربية ไทย 😀👩‍👩‍👧‍👦 \U00010348",
    "\x00\x1f\x7f\x85\xa0\u2028\u2029\u200b\ufeff\ufffd",
    HTML,
    f"a text with the {PADDING} in it",
]
WHOLE = "\n".join(TEXTS)
TOKENIZERS: dict[str, Tokenizer] = {
    "characters": CharacterTokenizer(WHOLE),
    "bytes": ByteTokenizer(),
    "bpe": BPETokenizer.train((WHOLE + HTML * 9) * 3, 420),
    "bpe without merges": BPETokenizer([]),
}
every_kind = pytest.mark.parametrize("kind", TOKENIZERS)


@every_kind
def test_the_same_ids_and_the_same_text(kind: str, tmp_path: Path) -> None:
    ours = TOKENIZERS[kind]
    theirs = to_transformers(ours)
    theirs.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for tokenizer in (theirs, again):
        for text in [*TEXTS, WHOLE]:
            ids = ours.encode(text).tolist()
            assert tokenizer(text).input_ids == ids
            assert tokenizer.decode(ids) == tokenizer.decode(ids, skip_special_tokens=True) == text
        assert tokenizer.pad_token_id == ours.vocabulary_size == len(tokenizer) - 1


@every_kind
def test_any_ids_have_the_same_text(kind: str) -> None:
    ours = TOKENIZERS[kind]
    theirs = to_transformers(ours)
    chosen = random.Random(0)
    for _ in range(200):
        ids = [chosen.randrange(ours.vocabulary_size) for _ in range(chosen.randrange(12))]
        assert theirs.decode(ids) == ours.decode(ids)


@every_kind
def test_a_batch_is_padded_on_the_left(kind: str) -> None:
    theirs = to_transformers(TOKENIZERS[kind])
    batch = theirs(["  two  spaces", "日本"], padding=True)
    for ids, mask, text in zip(batch.input_ids, batch.attention_mask, ["  two  spaces", "日本"], strict=True):
        assert len(ids) == len(batch.input_ids[0]) and mask == sorted(mask)
        assert theirs.decode(ids, skip_special_tokens=True) == text
        assert [one == theirs.pad_token_id for one in ids] == [not one for one in mask]


@every_kind
def test_back_again(kind: str, tmp_path: Path) -> None:
    ours = TOKENIZERS[kind]
    theirs = to_transformers(ours)
    theirs(["a", "ab"], padding=True, truncation=True, max_length=1)  # which the library remembers
    theirs.save_pretrained(tmp_path)
    for tokenizer in (theirs, AutoTokenizer.from_pretrained(tmp_path)):
        assert from_transformers(tokenizer).to_json() == ours.to_json()


def test_no_token_of_a_text_is_padding() -> None:
    first, *rest = PADDING.encode()
    ours = BPETokenizer([(first, rest[0]), *((256 + at, value) for at, value in enumerate(rest[1:]))])
    assert ours.decode([ours.vocabulary_size - 1]) == PADDING
    theirs = to_transformers(ours)
    assert theirs.pad_token_id == ours.vocabulary_size
    assert theirs.decode([ours.vocabulary_size - 1], skip_special_tokens=True) == PADDING


def test_what_is_unknown_is_said() -> None:
    with pytest.raises(Exception, match="Missing"):
        to_transformers(CharacterTokenizer("abc"))("abd")


def test_a_foreign_tokenizer_has_none() -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    lower = to_transformers(CharacterTokenizer("abc"))
    lower.backend_tokenizer.normalizer = normalizers.Lowercase()
    words = Tokenizer(models.WordLevel({"ab": 0, "c": 1}, "ab"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    for tokenizer in (
        lower,
        PreTrainedTokenizerFast(tokenizer_object=words),
        PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"a": 0}, []))),
        PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"b": 0, "a": 1}, "?"))),
    ):
        with pytest.raises(UserError, match="not one of minrnn"):
            from_transformers(tokenizer)
