"""Text as token ids and back, from tokenizer.json."""

import json
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

CONTRACTIONS = ("'s", "'t", "'re", "'ve", "'m", "'ll", "'d")


class Tokens:
    def __init__(self, path: Path = Path(__file__).parent / "tokenizer.json") -> None:
        with open(path, encoding="utf-8") as file:
            record = json.load(file)
        self.kind: str = record["kind"]
        self.tokens: list[bytes]
        if self.kind == "characters":
            self.tokens = [character.encode() for character in record["characters"]]
        else:
            self.tokens = [bytes([value]) for value in range(256)]
        self.ids = {token: number for number, token in enumerate(self.tokens)}
        self.ranks: dict[tuple[int, int], int] = {}
        for left, right in record.get("merges", ()):
            joined = self.tokens[left] + self.tokens[right]
            if joined not in self.ids:
                self.ids[joined] = len(self.tokens)
                self.tokens.append(joined)
            self.ranks.setdefault((left, right), len(self.ranks))

    def encode(self, text: str) -> list[int]:
        if self.kind == "characters":
            return [self.ids[character.encode()] for character in text]
        if self.kind == "bytes":
            return list(text.encode())
        return [token for word in words(text) for token in self.merged(list(word.encode()))]

    def merged(self, ids: list[int]) -> list[int]:
        """Join the pair that was learned first, until none is left."""
        while len(ids) > 1:
            pair = min(pairwise(ids), key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if pair not in self.ranks:
                break
            joined, at = [], 0
            while at < len(ids):
                both = tuple(ids[at : at + 2]) == pair
                joined.append(self.ids[self.tokens[pair[0]] + self.tokens[pair[1]]] if both else ids[at])
                at += 1 + both
            ids = joined
        return ids

    def bytes_of(self, token: int) -> bytes:
        return self.tokens[token]


def words(text: str) -> Iterator[str]:
    """As GPT-2 splits them: a contraction; letters, digits or others, with a space before them; white space."""
    at = 0
    while at < len(text):
        end = next((at + len(part) for part in CONTRACTIONS if text.startswith(part, at)), 0)
        if not end:
            start = at + (text[at] == " " and at + 1 < len(text) and kind(text[at + 1]) != "space")
            end = start + 1
            while end < len(text) and kind(text[end]) == kind(text[start]):
                end += 1
            if kind(text[start]) == "space" and end < len(text) and end - start > 1:
                end -= 1  # the last one belongs to what follows
        yield text[at:end]
        at = end


def kind(character: str) -> str:
    if character.isspace() and character not in "\x1c\x1d\x1e\x1f":  # which Unicode does not count as white space
        return "space"
    category = unicodedata.category(character)[0]
    return category if category in "LN" else "other"
