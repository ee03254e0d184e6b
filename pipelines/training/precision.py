"""In which precision a training computes: bf16 where this machine multiplies it faster than fp32.

chosen_precision("auto")        # "bf16" or "fp32"
"""

import functools
import time

import torch
from torch.nn import functional


def chosen_precision(setting: str) -> str:
    """`fp32` or `bf16`; `auto` takes bf16 where it pays."""
    if setting == "auto":
        return "bf16" if bf16_supported() and bf16_pays() else "fp32"
    return setting


def bf16_supported() -> bool:
    """Whether this machine multiplies bfloat16 in hardware (CUDA, AMX or AVX-512 BF16)."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@functools.cache
def bf16_pays() -> bool:
    """Whether bf16, where it is supported, is faster than fp32.

    It is on a GPU. On a CPU it is a matter of the processor: AVX-512 BF16 without AMX multiplies half as fast as fp32
    on some (0.55 of it measured for a convolution, 0.79 for a training step), twice as fast on others. So a
    convolution is timed both ways, which takes a tenth of a second; the two are too far apart for noise to change the
    answer.
    """
    if torch.cuda.is_available():
        return True
    fp32, bf16 = (_convolution(dtype) for dtype in (torch.float32, torch.bfloat16))
    times = [(_seconds(fp32), _seconds(bf16)) for _ in range(8)]
    # The first round prepares the kernels.
    return min(t for _, t in times[1:]) < min(t for t, _ in times[1:])


def _convolution(dtype: torch.dtype) -> functools.partial[torch.Tensor]:
    images, kernel = (
        torch.ones(shape, dtype=dtype).to(memory_format=torch.channels_last)
        for shape in ((8, 64, 40, 40), (64, 64, 3, 3))
    )
    return functools.partial(functional.conv2d, images, kernel, padding=1)


def _seconds(work: functools.partial[torch.Tensor]) -> float:
    began = time.perf_counter()
    with torch.inference_mode():
        work()
    return time.perf_counter() - began
