from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ._task import SEED, Batch, Task

OPERATORS = ("MIN", "MAX", "MED", "SM")
WORDS = (*map(str, range(10)), *(f"[{operator}" for operator in OPERATORS), "]")
PADDING = len(WORDS)

Tree: TypeAlias = "int | tuple[str, list[Tree]]"


@dataclass(frozen=True)
class ListOps(Task):
    """Nested lists of digits under MIN, MAX, MED (the median, cut to a whole number) and SM (the sum modulo 10); what
    is the value? (arXiv 1804.06028, as Long Range Arena has it, arXiv 2011.04006: no parentheses.)

    Arguments:
        shortest, longest: tokens of the lists, which are drawn again until they fit.
        trees: so many are drawn for training, once.
        depth: of the nesting, at most.
    """

    shortest: int = 500
    longest: int = 2000
    trees: int = 96_000
    depth: int = 10

    inputs = len(WORDS) + 1
    outputs = 10

    def batch(self, rng: np.random.Generator, size: int) -> Batch:
        data = drawn(self, self.trees, 0)
        return _batch([data[index] for index in rng.integers(0, self.trees, size)])

    def held_out(self, sequences: int, size: int) -> Iterator[Batch]:
        data = drawn(self, sequences, SEED)
        for start in range(0, sequences, size):
            yield _batch(data[start : start + size])


@cache
def drawn(task: ListOps, trees: int, seed: int) -> list[tuple[Tensor, int]]:
    """Tokens (T,) and the value of each tree."""
    rng = random.Random(f"{seed} {trees}")
    found: list[tuple[Tensor, int]] = []
    while len(found) < trees:
        tree = draw(rng, task.depth, task.longest)
        words = [] if tree is None else written(tree)
        if tree is not None and task.shortest <= len(words):
            found.append((torch.tensor([WORDS.index(word) for word in words], dtype=torch.uint8), value(tree)))
    return found


def draw(rng: random.Random, depth: int, longest: int) -> Tree | None:
    """A tree of 2 to 10 arguments at each node; three of four arguments are digits, and all at the deepest level. None
    where it comes to more than `longest` words: most trees do, and are given up as soon as that is clear.
    """
    room = longest

    def draw_part(depth: int, root: bool) -> Tree | None:
        nonlocal room
        if depth == 1 or (not root and rng.random() > 0.25):
            room -= 1
            return rng.randrange(10) if room >= 0 else None
        room -= 2  # the operator and the bracket that closes its list
        operator, arguments = rng.choice(OPERATORS), list[Tree]()
        for _ in range(rng.randint(2, 10)):
            argument = draw_part(depth - 1, False)
            if argument is None or room < 0:
                return None
            arguments.append(argument)
        return operator, arguments

    return draw_part(depth, True)


def written(tree: Tree) -> list[str]:
    """The words of a tree."""
    if isinstance(tree, int):
        return [str(tree)]
    operator, arguments = tree
    return [f"[{operator}", *(word for argument in arguments for word in written(argument)), "]"]


def value(tree: Tree) -> int:
    """The value of a tree."""
    if isinstance(tree, int):
        return tree
    operator, arguments = tree
    values = [value(argument) for argument in arguments]
    if operator == "MED":
        return int(np.median(values))
    if operator == "SM":
        return sum(values) % 10
    return min(values) if operator == "MIN" else max(values)


def read(words: Sequence[str]) -> Tree:
    """The tree of its words, the inverse of `written`."""
    open_lists: list[tuple[str, list[Tree]]] = [("", [])]
    for word in words:
        if word == "]":
            tree = open_lists.pop()
            open_lists[-1][1].append(tree)
        elif word.startswith("["):
            open_lists.append((word[1:], []))
        else:
            open_lists[-1][1].append(int(word))
    return open_lists[0][1][0]


def _batch(trees: list[tuple[Tensor, int]]) -> Batch:
    """Padded at the end, where no answer of a causal model depends on it."""
    lengths = torch.tensor([len(tokens) for tokens, _ in trees])
    inputs = torch.nn.utils.rnn.pad_sequence([tokens for tokens, _ in trees], batch_first=True, padding_value=PADDING)
    scored = torch.arange(inputs.shape[1]) == lengths[:, None] - 1
    return Batch(inputs.long(), scored, torch.tensor([answer for _, answer in trees]))
