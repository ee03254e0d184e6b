"""What glibc does with large blocks that are freed, seen in the memory of a process."""

import platform
import subprocess
import sys

import pytest
from version_factory import ROOT

# A first large block is freed, and then many, each of them below a small one that stays.
PROGRAM = """
import ctypes, sys, psutil
from resunet import memory
getattr(memory, sys.argv[1], lambda: None)()
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def block(size):
    address = libc.malloc(size)
    ctypes.memset(address, 1, size)
    return address

libc.free(block(30_000_000))
before = psutil.Process().memory_info().rss
blocks = [(block(8_000_000), block(100_000)) for _ in range(12)]
for large, _ in blocks:
    libc.free(large)
print((psutil.Process().memory_info().rss - before) / 1e6)
"""


def held_mb(how: str) -> float:
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told what to do with large blocks")
def test_a_server_gives_large_blocks_back_that_else_stay() -> None:
    assert held_mb("as it is") > 80
    assert held_mb("give_back_large_blocks") < 20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told what to do with large blocks")
def test_a_training_keeps_them() -> None:
    assert held_mb("keep_freed_memory") > 50
