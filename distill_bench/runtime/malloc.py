"""How glibc's allocator treats freed memory: kept for the next tensor instead of given back to the system.

An activation of tens of megabytes is otherwise mapped anew for every operation, and every page of it faulted in.
"""

import ctypes
import platform

# from glibc's malloc.h
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
_TOP_PAD_BYTES = 64 * 2**20


def disable_trim() -> bool:
    """Have this process keep what it frees; call it before the first large tensor. Results are the same to the bit.

    Returns whether it was done: glibc alone has the setting, and elsewhere nothing happens. It belongs to programs (the
    command, a suite's workers), not to a library that is imported into someone else's process.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(
        mallopt(option, value) == 1
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, _TOP_PAD_BYTES))
    )
