from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from ._task import Batch, Task


@dataclass(frozen=True)
class SelectiveCopying(Task):
    """Tokens are scattered over noise; then the model is to say them in order (arXiv 2312.00752, section 4.1.1).

    Vocabulary of 16. Two conventions are in use:

    "minrnn", of arXiv 2410.01201's authors: noise 15, data 1 to 14 among `length` steps, then `tokens` markers 0, at
    which the answers are due. 4,096 and 16 make 4,112 steps.

    "s4", of the S4 repository: noise 0, data 1 to 14 among `length + tokens` steps, then `tokens` markers 15. 4,096 and
    16 make 4,128 steps.
    """

    length: int = 4096
    tokens: int = 16
    convention: Literal["minrnn", "s4"] = "minrnn"

    inputs = 16
    outputs = 16

    def batch(self, rng: np.random.Generator, size: int) -> Batch:
        noise, marker, spread = (
            (15, 0, self.length) if self.convention == "minrnn" else (0, 15, self.length + self.tokens)
        )
        data = rng.integers(1, 15, (size, self.tokens))
        places = np.sort(rng.random((size, spread)).argsort(axis=1)[:, : self.tokens], axis=1)
        inputs = np.full((size, spread + self.tokens), noise)
        np.put_along_axis(inputs, places, data, axis=1)
        inputs[:, spread:] = marker
        scored = torch.zeros(inputs.shape, dtype=torch.bool)
        scored[:, spread:] = True
        return Batch(torch.from_numpy(inputs), scored, torch.from_numpy(data).flatten())
