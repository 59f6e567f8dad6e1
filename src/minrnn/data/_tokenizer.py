"""What every tokenizer does, and text from one token at a time."""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from minrnn.errors import UserError

from ._files import write_whole

Ids = Sequence[int] | NDArray[np.integer[Any]]


class Tokenizer(Protocol):
    """Text as numbers, 0 to `vocabulary_size` - 1, and back; `decode(encode(text))` is `text`."""

    kind: str
    vocabulary_size: int

    def encode(self, text: str) -> NDArray[np.int32]:
        """The token ids (N,) of `text`. Raises UserError for a character that there is no token for."""
        ...

    def token_bytes(self, token: int) -> bytes:
        """The UTF-8 bytes of one token; they need not be whole characters. Raises IndexError for ids out of range."""
        ...

    def _content(self) -> dict[str, Any]:
        """The fields of `to_json` that only this kind has."""
        ...

    def decode(self, ids: Ids) -> str:
        """The text of token ids (N,); bytes that are no UTF-8 become U+FFFD. Raises IndexError for ids out of range."""
        ...

    def stream(self) -> TextStream:
        """A decoder for text that is shown while it is written."""
        return TextStream(self)

    def to_json(self) -> dict[str, Any]:
        """A record for `tokenizer_from_json`, with a checksum: two tokens exchanged would turn all text to nonsense."""
        record = {"kind": self.kind, **self._content()}
        return {**record, "sha256": checksum(record)}

    def save(self, path: str | Path) -> None:
        """Write a JSON file for `load_tokenizer`, whole or not at all. Raises UserError where that fails."""
        try:
            write_whole(Path(path), (json.dumps(self.to_json()) + "\n").encode())
        except OSError as error:
            raise UserError(f"cannot write {path}: {error.strerror}; make room or give another place") from error


class TextStream:
    """Text from one token at a time: a character comes out as soon as all its bytes are in.

    Example: `stream = tokenizer.stream(); text = "".join(map(stream.push, ids)) + stream.flush()`
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._token_bytes = tokenizer.token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The characters that `token` completes: often one, sometimes none or several."""
        return self._decoder.decode(self._token_bytes(token))

    def flush(self) -> str:
        """What is left at the end: U+FFFD where the last character is not complete, else nothing."""
        return self._decoder.decode(b"", final=True)


def checksum(record: dict[str, Any]) -> str:
    """The SHA-256 of a JSON record, the same however it is laid out in a file."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def within(ids: Ids, size: int) -> NDArray[np.int64]:
    """`ids` as an array. Without this a negative id would count from the end. Raises IndexError."""
    array = np.asarray(ids, np.int64)
    if len(array) and not 0 <= array.min() <= array.max() < size:
        raise IndexError(f"token ids from {array.min()} to {array.max()}; this tokenizer has 0 to {size - 1}")
    return array
