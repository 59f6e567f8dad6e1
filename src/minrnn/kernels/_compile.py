"""How kernels are compiled: one set of options, and a disk cache whose key covers every file of this folder.

Numba keys a cached kernel by the code of the kernel and by its closure, not by the helpers it calls. Each kernel
therefore closes over
`SOURCES`, a hash of all files in this folder, so that no edit can ever run an old kernel. Kernels close over
*module-level* functions
only: those are pickled by name and give the same key in every process.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit
from numba.extending import register_jitable

# Multiply-add contraction only: kernels must keep NaN and infinity as they are. `error_model="numpy"` because a check
# for division by
# zero stops vectorisation.
OPTIONS: dict[str, Any] = {"fastmath": {"contract", "nsz"}, "error_model": "numpy"}

# Sums along a row are vectorised only if they may be reordered; the order depends on the row's length alone.
SUMMING: dict[str, Any] = OPTIONS | {"fastmath": {"contract", "nsz", "reassoc"}}

# A call left in a loop stops its vectorisation, so nothing is left to the inliner's estimate of costs.
INLINE: dict[str, Any] = OPTIONS | {"forceinline": True}

scalar = register_jitable(**INLINE)
"""Decorates a scalar function that kernels call in their loops."""


def _hash_sources(folder: Path) -> int:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return int.from_bytes(digest.digest()[:8], "big") >> 1


SOURCES: int = _hash_sources(Path(__file__).parent)


def kernel(function: Callable[..., None], options: dict[str, Any] = OPTIONS) -> Callable[..., None]:
    """Compile at the first call, without the GIL, and keep the machine code on disk where a folder for it can be
    written.
    """
    try:
        return njit(nogil=True, cache=True, **options)(function)
    except RuntimeError as error:  # Numba found no writable folder
        warnings.warn(
            f"kernels are compiled anew in every process ({error}); set NUMBA_CACHE_DIR to a writable folder",
            stacklevel=2,
        )
        return njit(nogil=True, **options)(function)
