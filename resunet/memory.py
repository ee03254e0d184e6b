"""What glibc does with large blocks that are freed: kept for the next step of a training, given back by a server.

keep_freed_memory()         # a training, at its start
give_back_large_blocks()    # a server, at its start
"""

import ctypes
import sys
from typing import Final

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4
_KEPT_BYTES: Final = 2**31 - 1
_LARGE_BYTES: Final = 1 << 20


def keep_freed_memory() -> bool:
    """Tell glibc not to return large blocks; False where there is no glibc.

    A training step frees and takes the same hundreds of megabytes again and again, and by default each time
    the system clears every page anew. Measured at width 16, batch 8, on 2 cores: 0.150 s a step before, 0.119 s
    after, in bf16.
    """
    return _set(_M_MMAP_MAX, 0) and _set(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def give_back_large_blocks() -> bool:
    """Tell glibc to return every block of a megabyte and more as soon as it is free; False where there is no glibc.

    By default it does so only until the first one of up to 32 MB was freed: from then on such blocks lie among small
    ones, which keep them from going. After 2,500 spoilt images, some as large as any may be, the gateway held 830 to
    1,260 MB at rest before, 350 to 740 after (`benchmarks.fuzz_requests`).
    """
    return _set(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def _set(parameter: int, value: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        return bool(ctypes.CDLL("libc.so.6").mallopt(parameter, value))
    except (OSError, AttributeError):
        return False
