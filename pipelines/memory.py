"""Keep freed memory in the process instead of giving it back to the system after every tensor."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_KEPT_BYTES = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell glibc not to return large blocks; False where there is no glibc.

    A training step frees and takes the same hundreds of megabytes again and again, and by default each time
    the system clears every page anew. Measured at width 16, batch 8, on 2 cores: 0.150 s a step before, 0.119 s
    after, in bf16.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES))
