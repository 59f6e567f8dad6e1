"""Characters as numbers, at the speed of a copy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def code_points(text: str) -> NDArray[np.uint32]:
    """The Unicode code point of each character, (N,); lone surrogates included."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint32, copy=False)


def characters(codes: NDArray[np.uint32]) -> str:
    """The inverse of `code_points`."""
    return codes.astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")
