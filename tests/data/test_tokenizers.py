import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minrnn.data import (
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    Text,
    _tokenizers,
    build_tokenizer,
    load_text,
    load_tokenizer,
    tokenizer_from_json,
)
from minrnn.errors import UserError

pytest.importorskip("tokenizers")
DOCS = load_text()
BPE = BPETokenizer.train(DOCS.train, 700)
ALL = [CharacterTokenizer(DOCS.text), ByteTokenizer(), BPE]
each = pytest.mark.parametrize("tokenizer", ALL, ids=lambda tokenizer: tokenizer.kind)


@each
def test_a_text_comes_back_in_full(tokenizer):
    ids = tokenizer.encode(DOCS.text)
    assert ids.dtype == np.int32 and ids.ndim == 1
    assert ids.min() >= 0 and ids.max() < tokenizer.vocabulary_size
    assert tokenizer.decode(ids) == DOCS.text


@given(st.text(min_size=1))
def test_any_text_comes_back_from_its_characters(text):
    tokenizer = CharacterTokenizer(text)
    ids = tokenizer.encode(text)
    assert tokenizer.vocabulary_size == len(set(text)) and len(ids) == len(text)
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("tokenizer", ALL[1:], ids=["bytes", "bpe"])
@given(text=st.text())
def test_bytes_and_bpe_know_every_text(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.binary())
def test_bytes_that_are_no_text_come_back_as_they_were(content):
    ids = ByteTokenizer().encode(content.decode("utf-8", "surrogateescape"))
    assert bytes(ids.tolist()) == content


@each
@given(data=st.data())
def test_a_stream_gives_what_decode_gives(tokenizer, data):
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocabulary_size - 1)))
    stream = tokenizer.stream()
    assert "".join([*map(stream.push, ids), stream.flush()]) == tokenizer.decode(ids)
    assert b"".join(map(tokenizer.token_bytes, ids)).decode("utf-8", "replace") == tokenizer.decode(ids)


def test_a_stream_waits_for_whole_characters():
    stream = ByteTokenizer().stream()
    assert [stream.push(value) for value in "é🙂".encode()] == ["", "é", "", "", "", "🙂"]
    assert stream.flush() == ""
    assert stream.push(0xC3) == "" and stream.flush() == "\ufffd"


@each
def test_nothing_is_nothing(tokenizer):
    assert tokenizer.encode("").shape == (0,)
    assert tokenizer.decode([]) == "" == tokenizer.decode(np.zeros(0, np.int32))


@each
def test_ids_out_of_range_are_refused(tokenizer):
    for bad in (-1, tokenizer.vocabulary_size):
        for call in (lambda bad=bad: tokenizer.decode([0, bad]), lambda bad=bad: tokenizer.stream().push(bad)):
            with pytest.raises(IndexError, match=f"this tokenizer has 0 to {tokenizer.vocabulary_size - 1}"):
                call()


def test_unknown_characters_are_named_with_position_and_mend():
    with pytest.raises(UserError) as error:
        CharacterTokenizer("abc").encode("abécé🙂\n")
    assert str(error.value) == (
        "the text has '\\n' (U+000A), 'é' (U+00E9), '🙂' (U+1F642), first at position 2: not among the 3 characters "
        "that the model knows; leave them out, or train a model with --tokens bytes"
    )
    with pytest.raises(UserError, match="and 6 more, first at position 0"):
        CharacterTokenizer("abc").encode("0123456789")


@pytest.mark.parametrize(("alphabet", "message"), [("", "at least one character"), ("a\udcff", "--tokens bytes")])
def test_what_is_no_alphabet(alphabet, message):
    with pytest.raises(UserError, match=message):
        CharacterTokenizer(alphabet)


@pytest.mark.parametrize("tokenizer", ALL[1:], ids=["bytes", "bpe"])
def test_half_characters_are_refused(tokenizer):
    with pytest.raises(UserError, match=r"'\\ud83d' at position 2"):
        tokenizer.encode("ab\ud83d")


def test_characters_are_those_of_the_whole_text_and_bpe_learns_from_the_training_part():
    text = Text("test", "ab" * 45 + "xyxyxyxyxy")
    assert build_tokenizer("characters", text).decode([0, 1, 2, 3]) == "abxy"
    bpe = build_tokenizer("bpe:300", text)
    assert bpe.token_bytes(256) == b"ab" and len(bpe.encode("xyxy")) == 4


@pytest.mark.parametrize(
    ("tokens", "size", "vocabulary_size"),
    [("bytes", None, 256), ("bpe:256", None, 256), ("bpe:300", None, 300), ("bpe", 300, 300), ("bpe", None, 4096)],
)
def test_sizes(tokens, size, vocabulary_size):
    assert build_tokenizer(tokens, DOCS, size).vocabulary_size == vocabulary_size


@pytest.mark.parametrize("tokens", ["", "words", "bytes:256", "characters:", "bpe:", "bpe:x", "bpe:-1"])
def test_other_tokens_are_refused(tokens):
    with pytest.raises(UserError, match="give characters, bytes or bpe:SIZE"):
        build_tokenizer(tokens, DOCS)


@pytest.mark.parametrize(("tokens", "size"), [("bpe:255", None), ("bpe", 0), ("bpe:99999999999999999999", None)])
def test_impossible_sizes_are_refused(tokens, size):
    with pytest.raises(UserError, match="give 256 to 1,000,000"):
        build_tokenizer(tokens, DOCS, size)


def test_bpe_training_is_deterministic_and_stops_when_there_is_nothing_to_merge():
    assert BPETokenizer.train(DOCS.train, 700).to_json() == BPE.to_json()
    assert BPETokenizer.train("", 300).vocabulary_size == 256
    assert BPETokenizer.train("ab ab", 300).vocabulary_size == 257


def test_bpe_in_chunks_is_bpe_of_the_whole(monkeypatch):
    text = DOCS.text[:100_000] + " \n \u2003\n\n  end of it, don't  \u00a0 you  see?" * 50
    expected = BPE.encode(text)
    assert len(text) > _tokenizers.CHUNK
    for size in (1, 7, 1000, len(text)):
        monkeypatch.setattr(_tokenizers, "CHUNK", size)
        np.testing.assert_array_equal(BPE.encode(text), expected)


def test_bpe_pairs_that_join_to_the_same_token_share_it():
    tokenizer = BPETokenizer([(97, 98), (98, 99), (256, 99), (97, 257), (258, 258)])  # ab, bc, ab+c, a+bc, abcabc
    assert tokenizer.vocabulary_size == 256 + 4
    assert tokenizer.decode([258, 259]) == "abc" + "abcabc"
    np.testing.assert_array_equal(tokenizer.encode("abcabc"), [259])


@each
def test_saved_and_loaded_it_is_the_same(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    loaded = load_tokenizer(path)
    assert type(loaded) is type(tokenizer) and json.loads(path.read_text())["kind"] == tokenizer.kind
    assert loaded.vocabulary_size == tokenizer.vocabulary_size and loaded.to_json() == tokenizer.to_json()
    np.testing.assert_array_equal(loaded.encode(DOCS.held_out), tokenizer.encode(DOCS.held_out))
    assert list(tmp_path.iterdir()) == [path]


@each
def test_damaged_files_are_refused_by_name(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    whole = path.read_bytes()
    tampered = whole.replace(b'"kind": "', b'"kind": "x')
    for content in (
        b"",
        whole[: len(whole) // 2],
        tampered,
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"model": "bpe"}',
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"tokenizer\.json is not a tokenizer of minrnn \(.*put the original back"):
            load_tokenizer(path)


@pytest.mark.parametrize(
    "record",
    [
        {"kind": "words"},
        {"kind": []},
        {"kind": "characters"},
        {"kind": "characters", "characters": 3},
        {"kind": "characters", "characters": ""},
        {"kind": "bytes", "extra": 1},
        {"kind": "bpe", "merges": "ab"},
        {"kind": "bpe", "merges": [[97, 256]]},
        {"kind": "bpe", "merges": [[97, -1]]},
        {"kind": "bpe", "merges": [[97]]},
        {"kind": "bpe", "merges": [97]},
        {"kind": "bpe", "merges": [["a", None]]},
    ],
    ids=str,
)
def test_records_that_make_no_tokenizer_are_refused_in_spite_of_a_checksum(record):
    with pytest.raises(UserError):
        tokenizer_from_json({**record, "sha256": _tokenizers.checksum(record)})


def test_exchanged_tokens_are_noticed():
    record = CharacterTokenizer("abc").to_json()
    with pytest.raises(UserError, match="do not match its checksum"):
        tokenizer_from_json({**record, "characters": "abd"})


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot write .*tokenizer\.json: No such file or directory"):
        ByteTokenizer().save(tmp_path / "nowhere" / "tokenizer.json")
    with pytest.raises(UserError, match=r"cannot read .*tokenizer\.json: No such file"):
        load_tokenizer(tmp_path / "tokenizer.json")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "tokenizer.json"
    CharacterTokenizer("abc").save(path)
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match="No space left on device"):
        CharacterTokenizer("xyz").save(path)
    assert load_tokenizer(path).decode([0]) == "a" and list(tmp_path.iterdir()) == [path]


def test_without_the_library_bpe_names_the_mend(tmp_path, monkeypatch):
    path = tmp_path / "tokenizer.json"
    BPE.save(path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    for call in (lambda: load_tokenizer(path), lambda: build_tokenizer("bpe:300", DOCS)):
        with pytest.raises(UserError, match=r"^bpe tokens need the tokenizers library: pip install 'minrnn\[train\]'$"):
            call()
