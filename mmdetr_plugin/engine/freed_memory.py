"""Memory that was freed and that the process keeps for what comes next (glibc).

glibc returns large blocks to the system when they are freed. Feature maps are such blocks: the next one
needs new pages, which the system fills with zeros. On the CPU that takes up to a tenth of the time
(docs/performance.md).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # by the names in malloc.h
LIMITS = {TRIM_THRESHOLD: 2**31 - 1, MMAP_THRESHOLD: 2**30}
"""Bytes: free memory at the end of the heap, and single blocks, that are not given back below it."""


def chosen(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the user has set options of glibc's ``malloc``."""
    stated = any(name.startswith('MALLOC_') and name.endswith('_') for name in environ)
    return stated or 'glibc.malloc' in environ.get('GLIBC_TUNABLES', '')


def keep_freed_memory() -> bool:
    """Keep blocks below a gigabyte until the process ends, unless the user has chosen otherwise.

    The process then holds as much memory as it ever needed at once.

    Returns:
        Whether it is so now; False where the C library is not glibc.
    """
    if chosen():
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or none that can be loaded so
        return False
    return all(mallopt(name, limit) for name, limit in LIMITS.items())
