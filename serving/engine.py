"""The inference engines behind one small interface: ONNX Runtime, there also on a GPU, and OpenVINO.

    engine = open_engine("openvino", root / spec.serving_file, spec.precision)
    probabilities, embedding = engine.run(images)       # (N, H, W, 3) uint8, any H and W of at least 16

Both may be called from many threads at once. Measured on 2 cores with a width-32 ResUNet and 256x256 images:
OpenVINO's dynamic shapes cost nothing against a graph compiled for one shape (55 and 53 ms), but each image of
another shape than the last costs 10 to 25 ms, because kernels are prepared for it; how many prepared shapes
OpenVINO keeps is bounded here, because it would keep thousands.
"""

import functools
import importlib.util
import math
import os
import platform
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import LifoQueue
from threading import BoundedSemaphore, Lock
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from resunet.errors import SettingsError, VersionError
from resunet.images import MIN_SIDE
from serving.version import EngineName, Precision, VersionSpec

Images = NDArray[np.uint8]
Output = tuple[NDArray[np.float32], NDArray[np.float32]]
# What a version measured, and what only whoever has a GPU can ask for.
EngineChoice = EngineName | Literal["cuda"]

# Calls that run in OpenVINO beyond its streams, each of which computes one after the other: they fill the gap while
# another copies its result. With three more on one stream, 2 cores gave 29 images/s instead of 34.
_OPENVINO_MORE_CALLS = 1

# Calls that run in ONNX Runtime at a time. Each has all cores, so more gain nothing; each takes memory of its own,
# which is kept: six of 1024x1024 through a width-8 ResUNet left 3.7 GB behind them.
#
# Memory is given back after an image of another shape than the last. Measured on a width-32 ResUNet with 60 sizes of 16
# to 1400 px: 2.3 GB are held without, 0.2 GB with it, and such an image takes 7 % (256 px) to 19 % (1024 px) longer.
_ONNXRUNTIME_CALLS = 2

# Kernels that OpenVINO keeps prepared, one a node and shape; by default thousands. Measured on a width-8 ResUNet
# (some 60 nodes) with 600 sizes of 100 to 400 px: 2.8 MB a size and no end by default, with 64 no more than 72 MB
# in all. Images that come in four sizes by turns take 0.3 ms (64 px) to 0.6 ms (280 px) longer, those of one size
# no longer at all.
_OPENVINO_PREPARED = 64


_CPU: Final = "CPUExecutionProvider"
_CUDA: Final = "CUDAExecutionProvider"
_HOW_TO_CUDA: Final = (
    "on a machine with an NVIDIA GPU, pip uninstall onnxruntime and pip install onnxruntime-gpu; elsewhere set "
    "RESUNET_ENGINE=auto"
)
_first_inference = Lock()


class Engine(Protocol):
    """A loaded graph."""

    @property
    def name(self) -> EngineChoice:
        """Which engine."""
        ...

    def run(self, images: Images) -> Output:
        """Run the graph: (N, H, W, 3) uint8 → probabilities (N, C, H, W), embedding (N, 64), both float32."""
        ...


class OnnxRuntimeEngine:
    """ONNX Runtime. It has no bf16 mode: a bf16 version's file runs in fp32, and agrees.

    Args:
        path: the ONNX file.
        threads, streams: as of `open_engine`.
        cuda: run on the first GPU.

    Raises:
        SettingsError: there is no GPU that it can use.
    """

    def __init__(self, path: Path, threads: int | None = None, streams: int = 1, cuda: bool = False) -> None:
        import onnxruntime

        self.name: EngineChoice = "cuda" if cuda else "onnxruntime"

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or default_threads()
        options.inter_op_num_threads = 1
        # A memory plan is kept for each shape seen; images come in any number of shapes.
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        self._turns = BoundedSemaphore(max(streams, _ONNXRUNTIME_CALLS))
        self._shapes = HeldShapes()
        self._giving_back: Any = onnxruntime.RunOptions()
        arenas = "cpu:0;gpu:0" if cuda else "cpu:0"
        self._giving_back.add_run_config_entry("memory.enable_memory_arena_shrinkage", arenas)
        providers = [(_CUDA, {"use_tf32": "0"}), _CPU] if cuda else [_CPU]  # as exact as on the CPU
        self._session: Any = onnxruntime.InferenceSession(str(path), options, providers=providers)
        if cuda and _CUDA not in self._session.get_providers():  # it only warns, and takes the CPU
            raise SettingsError(f"ONNX Runtime cannot use a GPU here: {_HOW_TO_CUDA}")

    def run(self, images: Images) -> Output:
        with self._turns, self._shapes.running(images.shape) as others:
            options = self._giving_back if others else None
            probabilities, embedding = self._session.run(["probabilities", "embedding"], {"images": images}, options)
        return probabilities, embedding


class HeldShapes:
    """Of which shapes memory is held: what one needs is kept for the next image of the same; of all, it is gigabytes.

    Memory that a call on another thread is using cannot be given back. It is given back by the next call then.
    """

    def __init__(self) -> None:
        self._held: set[tuple[int, ...]] = set()
        self._running: Counter[tuple[int, ...]] = Counter()
        self._lock = Lock()

    @contextmanager
    def running(self, shape: tuple[int, ...]) -> Iterator[bool]:
        """While the block runs, a shape is in use; whether memory of others is held, which the call is to give back."""
        with self._lock:
            others = bool(self._held - {shape})
            self._held.add(shape)
            self._running[shape] += 1
        try:
            yield others
        finally:
            with self._lock:
                self._running -= Counter([shape])
                if others:
                    self._held = {shape, *self._running}


class OpenVinoEngine:
    """OpenVINO on the CPU: one compiled model with dynamic shapes, and a pool of infer requests."""

    name: EngineChoice = "openvino"

    def __init__(self, path: Path, precision: Precision, threads: int | None = None, streams: int = 1) -> None:
        core = _openvino()
        compiled = core.compile_model(
            core.read_model(str(path)),
            "CPU",
            {
                **({"PERFORMANCE_HINT": "LATENCY"} if streams == 1 else {"NUM_STREAMS": str(streams)}),
                "INFERENCE_NUM_THREADS": (threads or default_threads()) * streams,
                # Said in every case: left alone, OpenVINO silently takes bf16 where the processor has it.
                "INFERENCE_PRECISION_HINT": "bf16" if computed_in(self.name, precision) == "bf16" else "f32",
                # Two processes that pin their threads would share the first cores and leave the rest idle.
                "ENABLE_CPU_PINNING": False,
                "CPU_RUNTIME_CACHE_CAPACITY": str(max(1, _OPENVINO_PREPARED // streams)),
            },
        )
        self._pool: LifoQueue[Any] = LifoQueue()
        for _ in range(streams + _OPENVINO_MORE_CALLS):
            self._pool.put(compiled.create_infer_request())
        # OpenVINO's bindings make some of their own at the first inference, in a way that two threads which come to it
        # at once wait for each other for ever: one holds Python's lock and waits for the other's, which wants Python's.
        with _first_inference:
            self.run(np.zeros((1, MIN_SIDE, MIN_SIDE, 3), np.uint8))

    def run(self, images: Images) -> Output:
        request = self._pool.get()
        try:
            # The outputs are copies: the request's own memory belongs to the next caller.
            result = request.infer({"images": images}, share_inputs=True, share_outputs=False)
            return result["probabilities"], result["embedding"]
        finally:
            self._pool.put(request)


@functools.cache
def _openvino() -> Any:
    """OpenVINO's core: one for the life of the process, whatever is loaded and dropped meanwhile.

    On processors with AMX the CPU plugin of each core gives the thread that makes it a signal stack of its own, and
    puts the one before back when it goes. Cores that do not go in the reverse order of their coming leave the thread
    with the stack of one that is gone: the next signal is written over whatever has that memory by then, and the
    process dies far from the cause. Seen with OpenVINO 2026.4.1.
    """
    import openvino

    return openvino.Core()


def open_engine(
    name: EngineChoice, path: Path, precision: Precision, threads: int | None = None, streams: int = 1
) -> Engine:
    """Load a graph.

    Args:
        name: which engine.
        path: the ONNX file.
        precision: that the file is to be run in; see `VersionSpec.precision`.
        threads: cores that a call computes on; None takes `default_threads()`.
        streams: calls that compute at a time, each on so many cores.

    Raises:
        SettingsError: the engine's package is not installed.
        VersionError: the file is missing, or the engine cannot read it.
    """
    if name == "cuda" and not is_installed(name):
        raise SettingsError(f"this ONNX Runtime has no CUDA: {_HOW_TO_CUDA}")
    if not is_installed(name):
        raise SettingsError(f"the engine {name} is not installed: pip install {name}, or set RESUNET_ENGINE=auto")
    if not path.is_file():
        raise VersionError(f"{path.name} is missing from the version; fetch the version anew")
    try:
        if name == "openvino":
            return OpenVinoEngine(path, precision, threads, streams)
        return OnnxRuntimeEngine(path, threads, streams, cuda=name == "cuda")
    except SettingsError:
        raise
    except Exception as error:
        raise VersionError(
            f"{name} cannot read {path.name} ({type(error).__name__}); fetch the version anew, or try the other engine"
        ) from error


def choose_engine(spec: VersionSpec, setting: str = "auto") -> EngineChoice:
    """Decide which engine runs a version here.

    Args:
        spec: the version; its `engines` say which give the right masks, and how fast they were.
        setting: `auto`, an engine's name or `cuda`. Auto takes the fastest eligible engine that is installed on
            x86-64, and ONNX Runtime elsewhere or where none was measured; never a GPU, which no version measured.

    Raises:
        SettingsError: no such engine, or its masks were measured to differ from ONNX Runtime's, or were never measured.
    """
    named: dict[str, EngineName] = {"onnxruntime": "onnxruntime", "openvino": "openvino"}
    if setting in named:
        measured = spec.engines.get(named[setting])
        if measured is None and setting != "onnxruntime":
            raise SettingsError(
                f"{setting} was never measured with this version, so it may give other masks: set "
                f"RESUNET_ENGINE=auto, or train a version on a machine where {setting} is installed, which measures it"
            )
        if measured is not None and not measured.eligible:
            raise SettingsError(
                f"{setting} gives other masks for this version ({measured.pixel_agreement:.4%} of pixels "
                "agree): set RESUNET_ENGINE=auto"
            )
        return named[setting]
    if setting == "cuda":
        return "cuda"
    if setting != "auto":
        raise SettingsError(f"unknown engine {setting!r}; choose auto, onnxruntime, openvino or cuda")
    usable = [name for name, measured in spec.engines.items() if measured.eligible and is_installed(name)]
    if platform.machine().lower() not in ("x86_64", "amd64") or not usable:
        return "onnxruntime"
    return min(usable, key=lambda name: spec.engines[name].latency_ms)


def is_installed(name: EngineChoice) -> bool:
    """Whether the engine's package can be imported here, and knows CUDA where that is asked for."""
    if name != "cuda":
        return importlib.util.find_spec(name) is not None
    if not is_installed("onnxruntime"):
        return False
    import onnxruntime

    return _CUDA in onnxruntime.get_available_providers()


def has_bf16() -> bool:
    """Whether OpenVINO computes in bf16 on this processor; elsewhere it would run a bf16 version in fp32."""
    return is_installed("openvino") and "BF16" in _openvino().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def computed_in(engine: EngineChoice, precision: Precision) -> Precision:
    """What a version's file is computed in here: bf16 takes OpenVINO and a processor that has it, else it is fp32."""
    if precision != "bf16":
        return precision
    return "bf16" if engine == "openvino" and has_bf16() else "fp32"


def default_threads() -> int:
    """Threads that compute one image unless somebody says otherwise: OMP_NUM_THREADS, as torch has it, else all cores.

    Who shares a machine sets it: threads that wait for each other spin, and slow down whatever runs beside them.
    """
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return min(int(told), available_cores()) if told.isdecimal() and int(told) else available_cores()


def available_cores() -> int:
    """Cores that this process may use: its affinity and its container's quota, not the machine's count."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        allowed = min(allowed, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control groups, or no quota ("max")
        pass
    return allowed
