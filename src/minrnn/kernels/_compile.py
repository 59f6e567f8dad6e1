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
from numba.core.caching import FunctionCache
from numba.core.sigutils import normalize_signature
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


_warned = False


def _warn_once(error: Exception) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"kernels are compiled anew in every process ({error}); set NUMBA_CACHE_DIR to a writable folder",
            stacklevel=4,
        )


class _Cache(FunctionCache):  # type: ignore[misc]
    """Numba's cache, safe against full disks, damaged files, and processes that are killed or write at once.

    Numba writes an index of numbered files, then the files, and believes what it finds: were a file name shared by two
    kernels or by two versions of one, an interrupted or a second writer could leave the machine code of one under the
    name of the other.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            found = super().load_overload(sig, target_context)
        except Exception:  # unpickling damaged files raises anything
            return None
        return (
            found if found is not None and tuple(found.signature.args) == tuple(normalize_signature(sig)[0]) else None
        )

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:  # a full disk, or an index that cannot be read
            _warn_once(error)


def kernel(function: Callable[..., None], *names: str, options: dict[str, Any] = OPTIONS) -> Callable[..., None]:
    """Compile at the first call, without the GIL; the machine code is kept on disk where a folder can be written.

    `names` tell kernels apart that share their code. With the hash of all sources they are part of the names of files.
    """
    function.__qualname__ = ".".join([function.__name__, *names, f"{SOURCES:x}"])
    dispatcher = njit(nogil=True, **options)(function)
    try:
        dispatcher._cache = _Cache(function)
    except RuntimeError as error:  # Numba found no writable folder
        _warn_once(error)
    return dispatcher
