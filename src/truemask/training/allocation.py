"""Memory of a training on the CPU: kept from step to step, and in huge pages."""

import ctypes
import os
import platform

# Numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4


def use_huge_pages() -> None:
    """Have PyTorch ask the system for huge pages; call it before the first tensor is made.

    Linux alone has them, and gives them where it can. A value that the user has set stays.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def keep_memory() -> None:
    """Keep the memory that a step has freed for the next one, which needs as much again.

    glibc, the C library of most Linux systems, gives large blocks back to the system at once, which
    has to clear every page of the next ones: a tenth of a step (docs/performance.md). With another
    C library nothing is changed.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    library.mallopt(_M_MMAP_MAX, 0)
    library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    library.mallopt(_M_TOP_PAD, 64 << 20)
