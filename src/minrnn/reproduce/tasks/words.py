"""Words over a group: what product do they have so far?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ._task import Batch, Task

# Generators as permutations: image of 0, 1, 2, ...
GENERATORS: dict[str, tuple[tuple[int, ...], ...]] = {
    "Z2": ((0, 1), (1, 0)),  # nothing and a flip: the product is the parity of the flips
    "S3": ((1, 0, 2), (1, 2, 0)),
    "A5": ((1, 2, 3, 4, 0), (1, 2, 0, 3, 4)),  # a 5-cycle and a 3-cycle
}


@dataclass(frozen=True)
class GroupWords(Task):
    """Words of generators of a group of permutations; asked for is the product of the word so far (arXiv 2404.08819).

    Arguments:
        group: "Z2" (parity), "S3", or "A5", whose words are complete for NC1.
        shortest, longest: length of the words; one for each batch.
        asked: the product at "every" step, or at the "last" alone.
        scratchpad: each generator is followed by the product so far, written out as a token; the model predicts it at
            the generator, and is given what it should have written.
        whole: a word is right only where all its products are. With a scratchpad that is so exactly where the model
            would have been right while reading its own writing.
    """

    group: Literal["Z2", "S3", "A5"] = "A5"
    shortest: int = 1
    longest: int = 40
    asked: Literal["every", "last"] = "every"
    scratchpad: bool = False
    whole: bool = False

    @property
    def inputs(self) -> int:  # type: ignore[override]
        return len(GENERATORS[self.group]) + (self.outputs if self.scratchpad else 0)

    @property
    def outputs(self) -> int:  # type: ignore[override]
        return len(multiplication(self.group))

    def batch(self, rng: np.random.Generator, size: int) -> Batch:
        length = int(rng.integers(self.shortest, self.longest + 1))
        letters = rng.integers(0, len(GENERATORS[self.group]), (size, length))
        inputs, products = letters, self.products(letters)
        scored: NDArray[np.bool_] = np.ones(letters.shape, dtype=bool)
        if self.asked == "last":
            scored[:, :-1] = False
        if self.scratchpad:
            written = products + len(GENERATORS[self.group])
            inputs = np.stack([letters, written], axis=2).reshape(size, -1)
            scored = np.stack([scored, np.zeros_like(scored)], axis=2).reshape(size, -1)
        targets = products[:, -1:] if self.asked == "last" else products
        return Batch(torch.from_numpy(inputs), torch.from_numpy(scored), torch.from_numpy(targets).flatten())

    def products(self, letters: NDArray[np.int64]) -> NDArray[np.int64]:
        """letters (B, T) -> number of the product of the first t letters, (B, T)."""
        table = multiplication(self.group)
        product: NDArray[np.int64] = np.zeros(len(letters), dtype=np.int64)
        products = np.empty_like(letters)
        for t in range(letters.shape[1]):
            product = table[product, letters[:, t]]
            products[:, t] = product
        return products


@cache
def multiplication(group: str) -> NDArray[np.int64]:
    """table[g, s]: number of g s, element g followed by generator s. Elements are numbered as they are found from the
    identity, 0."""
    generators = GENERATORS[group]
    found = [tuple(range(len(generators[0])))]
    table: list[list[int]] = []
    for g in found:  # grows as it is read
        row = []
        for s in generators:
            product = tuple(s[point] for point in g)
            if product not in found:
                found.append(product)
            row.append(found.index(product))
        table.append(row)
    return np.array(table)
