"""What glibc does with large blocks that are freed, seen in the memory of a process."""

import platform
import subprocess
import sys
from pathlib import Path

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


LARGE_PAGES = """
import ctypes, re
from pathlib import Path
from resunet.memory import keep_freed_memory
keep_freed_memory()
keep_freed_memory()  # a second training in one process
libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype = ctypes.c_void_p
block = libc.malloc(100_000_000)
ctypes.memset(block, 1, 100_000_000)
asked, there = 0, 0
for area in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE):
    if "[heap]" in area:
        asked += int(re.search(r"^Size: +(\\d+)", area, re.MULTILINE)[1]) * (" hg" in area)
        there += int(re.search(r"^AnonHugePages: +(\\d+)", area, re.MULTILINE)[1])
print(asked, there)
"""
OFFERED = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or not OFFERED.is_file(), reason="no glibc, or no large pages")
def test_a_training_asks_for_large_pages_without_taking_more_than_it_fills() -> None:
    done = subprocess.run([sys.executable, "-c", LARGE_PAGES], cwd=ROOT, capture_output=True, text=True, check=True)
    asked, there = (int(number) / 1024 for number in done.stdout.split())
    assert 1500 < asked < 2000
    assert there < 150
