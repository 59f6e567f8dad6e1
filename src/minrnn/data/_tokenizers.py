"""Three kinds of token: characters, bytes, and pairs of bytes merged by how often they meet."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minrnn.errors import UserError

from ._codes import characters, code_points
from ._text import Text
from ._tokenizer import Ids, Tokenizer, checksum, within

SMALLEST, DEFAULT, LARGEST = 256, 4096, 1_000_000  # vocabulary sizes of BPETokenizer; the smallest has bytes only
CHUNK = 65536  # characters that the tokenizers library is given at once: it needs some hundred bytes for each


class CharacterTokenizer(Tokenizer):
    """One token for each character of an alphabet, numbered in the order of their code points.

    Example: `CharacterTokenizer("hello").encode("hole")` is `[1, 3, 2, 0]`

    Raises UserError for an alphabet that is empty or holds lone surrogates, which are no characters.
    """

    kind = "characters"

    def __init__(self, alphabet: str) -> None:
        codes = np.unique(code_points(alphabet))
        if not len(codes):
            raise UserError("a character tokenizer needs at least one character")
        if ((codes >= 0xD800) & (codes < 0xE000)).any():
            raise UserError("the text has bytes that are no characters; learn bytes (--tokens bytes)")
        self._codes = codes
        self._ids = np.full(codes[-1] + 2, -1, np.int32)  # by code point; the last entry is for all above
        self._ids[codes] = np.arange(len(codes))
        self.vocabulary_size = len(codes)

    def encode(self, text: str) -> NDArray[np.int32]:
        codes = code_points(text)
        ids: NDArray[np.int32] = self._ids[np.minimum(codes, len(self._ids) - 1)]
        unknown = codes[ids < 0]
        if len(unknown):
            names = [f"{chr(code)!r} (U+{code:04X})" for code in np.unique(unknown).tolist()]
            shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            raise UserError(
                f"the text has {shown}, first at position {np.argmax(ids < 0)}: not among the {self.vocabulary_size} "
                "characters that the model knows; leave them out, or train a model with --tokens bytes"
            )
        return ids

    def decode(self, ids: Ids) -> str:
        return characters(self._codes[within(ids, self.vocabulary_size)])

    def token_bytes(self, token: int) -> bytes:
        return self.decode([token]).encode()

    def _content(self) -> dict[str, Any]:
        return {"characters": characters(self._codes)}


class ByteTokenizer(Tokenizer):
    """The 256 bytes of UTF-8, so that no text is unknown; bytes that `load_text` took as they were come back as such.

    Example: `ByteTokenizer().encode("é")` is `[195, 169]`
    """

    kind = "bytes"
    vocabulary_size = 256

    def encode(self, text: str) -> NDArray[np.int32]:
        return np.frombuffer(_utf8(text, "surrogateescape"), np.uint8).astype(np.int32)

    def decode(self, ids: Ids) -> str:
        return within(ids, self.vocabulary_size).astype(np.uint8).tobytes().decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        return bytes(within([token], self.vocabulary_size).tolist())

    def _content(self) -> dict[str, Any]:
        return {}


class BPETokenizer(Tokenizer):
    """Byte pair encoding: the 256 bytes, and tokens that each join two earlier ones. No text is unknown.

    Words are split off first as GPT-2 does; the `tokenizers` library trains and applies the merges.

    Arguments:
        merges: pairs of token ids in the order in which they are joined; token 256 is the first pair, and so on.

    Example: `BPETokenizer.train("ab abab", 258).decode([256])` is `"ab"`

    Raises UserError for a pair of tokens that do not exist yet, and where `tokenizers` is not installed.
    """

    kind = "bpe"

    def __init__(self, merges: Iterable[Sequence[int]]) -> None:
        self._merges = [(int(left), int(right)) for left, right in merges]
        tokens = [bytes([value]) for value in range(256)]
        known = set(tokens)
        for left, right in self._merges:
            if not (0 <= left < len(tokens) and 0 <= right < len(tokens)):
                raise UserError(f"a merge of tokens {left} and {right}, of which there are {len(tokens)} so far")
            joined = tokens[left] + tokens[right]
            if joined not in known:  # two pairs may join to the same token
                known.add(joined)
                tokens.append(joined)
        self._tokens = tokens
        self.vocabulary_size = len(tokens)
        names = [_name(token) for token in tokens]
        library = _library()
        model = library.models.BPE(
            vocab={name: token for token, name in enumerate(names)},
            merges=[(names[left], names[right]) for left, right in self._merges],
        )
        self._encoder = library.Tokenizer(model)
        self._encoder.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)

    @classmethod
    def train(cls, text: str, size: int = DEFAULT) -> BPETokenizer:
        """Merge the pairs that meet most often in `text` until there are `size` tokens, or no pair meets twice."""
        if not SMALLEST <= size <= LARGEST:
            raise UserError(f"a BPE vocabulary of {size}; give {SMALLEST} to {LARGEST:,}")
        _utf8(text)
        library = _library()
        trained = library.Tokenizer(library.models.BPE())
        trained.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = library.trainers.BpeTrainer(
            vocab_size=size, min_frequency=2, initial_alphabet=list(NAMES), show_progress=False
        )
        trained.train_from_iterator(_chunks(text), trainer)
        ids = {name: token for token, name in enumerate(NAMES)}
        merges = []
        for left, right in json.loads(trained.to_str())["model"]["merges"]:
            merges.append((ids[left], ids[right]))
            ids.setdefault(left + right, len(ids))
        return cls(merges)

    def encode(self, text: str) -> NDArray[np.int32]:
        _utf8(text)
        parts = [np.array(self._encoder.encode(chunk).ids, np.int32) for chunk in _chunks(text)]
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)

    def decode(self, ids: Ids) -> str:
        tokens = [self._tokens[token] for token in within(ids, self.vocabulary_size).tolist()]
        return b"".join(tokens).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        return self._tokens[int(within([token], self.vocabulary_size)[0])]

    def _content(self) -> dict[str, Any]:
        return {"merges": [list(pair) for pair in self._merges]}


# The library names bytes by printable characters, as GPT-2 did: by their own in Latin-1, the rest by those from U+0100.
_PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))
_OTHERS = [value for value in range(256) if value not in _PRINTABLE]
NAMES = [chr(value if value in _PRINTABLE else 0x100 + _OTHERS.index(value)) for value in range(256)]


def _name(token: bytes) -> str:
    return "".join(NAMES[value] for value in token)


def _library() -> Any:
    try:
        import tokenizers
        import tokenizers.trainers
    except ImportError as error:
        raise UserError("bpe tokens need the tokenizers library: pip install 'minrnn[train]'") from error
    return tokenizers


def _chunks(text: str) -> Iterator[str]:
    """`text` in pieces that have the tokens of the whole: no word goes over from a character into a space after it."""
    start = 0
    while start < len(text):
        cut = re.compile(r"(?<=\S)[ \n]").search(text, start + CHUNK)
        end = cut.start() if cut else len(text)
        yield text[start:end]
        start = end


def _utf8(text: str, errors: str = "strict") -> bytes:
    try:
        return text.encode("utf-8", errors)
    except UnicodeEncodeError as error:
        raise UserError(
            f"the text has {text[error.start]!r} at position {error.start}, a part of no character; leave it out"
        ) from error


def build_tokenizer(tokens: str, text: Text, size: int | None = None) -> Tokenizer:
    """A tokenizer for `text`.

    Arguments:
        tokens: "characters", "bytes", "bpe" (4096 tokens) or "bpe:SIZE".
        size: the same as SIZE, as a number.

    The characters are those of the whole text: they are a list and not something learned, and the held-out part must be
    judged to its last character. BPE learns its merges from the training part alone.

    Example: `build_tokenizer("bpe:1024", load_text("shakespeare")).vocabulary_size` is 1024

    Raises UserError for another kind or a size that cannot be.
    """
    kind, _, number = tokens.partition(":")
    if tokens == CharacterTokenizer.kind:
        return CharacterTokenizer(text.text)
    if tokens == ByteTokenizer.kind:
        return ByteTokenizer()
    if kind == BPETokenizer.kind and (tokens == kind or number.isdecimal()):
        return BPETokenizer.train(text.train, int(number or (DEFAULT if size is None else size)))
    raise UserError(f"tokens cannot be {tokens!r}; give characters, bytes or bpe:SIZE (example: bpe:{DEFAULT})")


def tokenizer_from_json(record: Any) -> Tokenizer:
    """The tokenizer whose `to_json` gave `record`. Raises UserError for any other record."""
    if not isinstance(record, dict) or not {"kind", "sha256"} <= record.keys():
        raise UserError("it has no kind and checksum")
    content = {name: value for name, value in record.items() if name != "sha256"}
    if checksum(content) != record["sha256"]:
        raise UserError("its contents do not match its checksum")
    match content:
        case {"kind": "characters", "characters": str(alphabet), **rest} if not rest:
            return CharacterTokenizer(alphabet)
        case {"kind": "bytes", **rest} if not rest:
            return ByteTokenizer()
        case {"kind": "bpe", "merges": list(merges), **rest} if not rest:
            try:
                return BPETokenizer(merges)
            except UserError:
                raise
            except (TypeError, ValueError) as error:
                raise UserError(f"its merges do not fit together: {error}") from error
    raise UserError(f"its kind or fields are unknown: {', '.join(map(str, content))}")


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer that `save` wrote. Raises UserError, naming the file, if it is missing, damaged or foreign."""
    try:
        return tokenizer_from_json(json.loads(Path(path).read_bytes()))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error.__cause__, ImportError):  # the file is as it should be
            raise
        raise UserError(f"{path} is not a tokenizer of minrnn ({error}); put the original back") from error
