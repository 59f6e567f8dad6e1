"""Let glibc keep the memory that it has.

A training step frees blocks of many megabytes and asks for them again a moment later. glibc gives each back to the
kernel, and the page faults of the next request cost more than the recurrence itself. Raising three thresholds keeps the
blocks. This changes the whole process, so commands do it and importing minrnn does not.
"""

from __future__ import annotations

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # names and numbers of <malloc.h>


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to keep freed blocks for reuse; True where that took effect, False on any other C library."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    largest = 2**31 - 1  # the argument is a C int
    settings = ((_M_MMAP_THRESHOLD, largest), (_M_TRIM_THRESHOLD, largest), (_M_TOP_PAD, 64 * 2**20))
    return all([mallopt(name, value) == 1 for name, value in settings])
