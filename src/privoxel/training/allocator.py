"""Freed memory is kept for the next pass.

By default the C library returns large blocks to the system when they are freed and takes fresh ones for the
next layer, and the system clears every fresh page. For the maps of a 2 mm volume that takes longer than most
kernels: keeping the pages nearly halves a pass (``benchmarks/RESULTS.md``).
"""

import ctypes

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # parameters of mallopt(3)


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, and return whether its allocator could be told (glibc only)."""
    try:
        library = ctypes.CDLL("libc.so.6")
        return bool(library.mallopt(MMAP_MAX, 0)) and bool(library.mallopt(TRIM_THRESHOLD, -1))
    except (OSError, AttributeError):
        return False
