"""Keep memory that was freed, instead of giving it back and asking for it again.

A forward pass over a brain allocates and frees buffers of 100 MB. glibc maps each anew and the
kernel zeroes every page of it, which on CPUs can cost as much as the arithmetic.
"""

import ctypes
import platform

M_MMAP_MAX = -4
M_TRIM_THRESHOLD = -1


def keep_freed_memory() -> None:
    """Let glibc's allocator reuse large buffers; does nothing elsewhere.

    Source:
        mallopt(3): no separate mappings, and a heap that is not trimmed below 2 GiB.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
