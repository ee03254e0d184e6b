"""`mlflow models serve` of a version against what one would serve without this project.

    python -m benchmarks.serving             # about 4 minutes, two of them training
    python -m benchmarks.serving --smoke

The peers have the same weights: (a) the network logged with `mlflow.pytorch` as its documentation defaults to,
which takes and gives tensors as JSON; (b) a pyfunc that takes the bytes of a PNG and gives those of a mask, as ours
does, and runs torch in bf16 and channels_last. All three servers are up; one at a time is asked. Latency is the
median of one client's requests, the rate that of eight clients, on the same two cores. A client starts with what it
has, the bytes of a PNG, or for (a) pixels normalised already, and is done when it holds the mask as an array. `JSON
ready` is (a) asked by clients that made their JSON once, before; it shows the server's own share.
"""

import argparse
import base64
import contextlib
import http.client
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import mlflow
import numpy as np
import torch
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.engine import PROBE, SIDE, MadeVersion, copy_or_make, drawn, print_choice
from benchmarks.rounds import interleave, print_comparison
from pipelines.runs.register import log_version
from pipelines.runs.tracking import quiet
from pipelines.servers import scoring_server
from resunet.networks.graph import normalise
from serving.pyfunc import VERSION_ARTIFACT
from serving.requirements import model_requirements
from serving.version import WEIGHTS_FILE

OURS, PYTORCH, READY, PYFUNC = "ours", "mlflow.pytorch", "mlflow.pytorch, JSON ready", "torch pyfunc"
CLIENTS = 8
TIMEOUT_SECONDS = 120.0
# Masks of bf16 and fp32 differ in a few pixels of ten thousand; a peer that answers something else is no peer.
MIN_AGREEMENT = 0.995
PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
# What a user may have set must not change what is measured; empty counts as unset.
ENVIRONMENT = {f"RESUNET_{name}": "" for name in ("INFERENCE_LOG", "ENGINE", "THREADS", "TRUSTED_KEY")}

Mask = NDArray[np.uint8]

# Peer (b), as its author would write it.
AUTHORS_CODE = """
import base64

import cv2, mlflow, torch
import numpy as np
import pandas as pd
from safetensors.torch import load_model

from resunet.networks import build_network


class Segmentation(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        network = build_network("resunet", WIDTH)
        load_model(network, context.artifacts["weights"])
        self.network = network.eval().to(memory_format=torch.channels_last)

    def predict(self, context, model_input, params=None):
        return pd.DataFrame([self.segment(data) for data in model_input["image"]])

    def segment(self, data):
        pixels = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        images = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2).float()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            logits = self.network((images - 127.5) / 63.75)
        mask = (logits[0, 0] >= 0).numpy().astype(np.uint8) * 255
        png = cv2.imencode(".png", mask)[1].tobytes()
        height, width = mask.shape
        return {"mask": base64.b64encode(png).decode("ascii"), "width": width, "height": height}


mlflow.models.set_model(Segmentation())
"""


@dataclass(frozen=True)
class Server:
    """One of the three: where it is, how a request is written, and how its answer is read."""

    url: str
    write: Callable[[], bytes]
    read: Callable[[bytes], Mask]

    def ask(self, connection: http.client.HTTPConnection) -> Mask:
        """Write and post a request, and read the mask out of the answer: (H, W) uint8, 0 and 1."""
        connection.request("POST", "/invocations", self.write(), {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise RuntimeError(f"the server answered {response.status}: {answer[:500]!r}")
        return self.read(answer)

    def connect(self) -> contextlib.closing[http.client.HTTPConnection]:
        """A connection that is kept from one request to the next."""
        address = self.url.removeprefix("http://")
        return contextlib.closing(http.client.HTTPConnection(address, timeout=TIMEOUT_SECONDS))

    def latency(self, requests: int) -> float:
        """Median of one client's requests, milliseconds; the first only warms up."""
        times = []
        with self.connect() as connection:
            for _ in range(requests + 1):
                started = time.perf_counter()
                self.ask(connection)
                times.append((time.perf_counter() - started) * 1000)
        return statistics.median(times[1:])

    def rate(self, requests: int) -> float:
        """Requests a second that `CLIENTS` clients get answered, each after each."""

        def client() -> None:
            with self.connect() as connection:
                for _ in range(requests):
                    self.ask(connection)

        started = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            for done in [pool.submit(client) for _ in range(CLIENTS)]:
                done.result()
        return CLIENTS * requests / (time.perf_counter() - started)


def log_ours(made: MadeVersion) -> str:
    """Log the version as training does; its URI."""
    return log_version(made.root, model_requirements(PYPROJECT)).uri


def log_pytorch(made: MadeVersion) -> str:
    """Log the network as a PyTorch model, as MLflow's documentation shows it; its URI."""
    tensors = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 3, SIDE, SIDE))]),
        outputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 1, SIDE, SIDE))]),
    )
    network = torch.nn.Sequential(made.network, torch.nn.Sigmoid()).eval()
    example = np.zeros((2, 3, SIDE, SIDE), np.float32)
    info = mlflow.pytorch.log_model(
        network, name="pytorch", signature=tensors, input_example=example, pip_requirements=["torch"]
    )
    return str(info.model_uri)


def log_pyfunc(made: MadeVersion, folder: Path) -> str:
    """Log the torch pyfunc; its URI."""
    code = folder / "torch_pyfunc.py"
    code.write_text(AUTHORS_CODE.replace("WIDTH", str(made.spec.width)), encoding="utf-8")
    columns = ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, "image")]),
        outputs=Schema(
            [
                ColSpec(DataType.string, "mask"),
                ColSpec(DataType.long, "width"),
                ColSpec(DataType.long, "height"),
            ]
        ),
    )
    info = mlflow.pyfunc.log_model(
        name="pyfunc",
        python_model=str(code),
        artifacts={"weights": str(made.root / WEIGHTS_FILE)},
        signature=columns,
        pip_requirements=["torch"],
    )
    return str(info.model_uri)


def png_of(rgb: NDArray[np.uint8]) -> bytes:
    """What a client of ours and of (b) has."""
    return cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes()


def pixels_of(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What a client of (a) has: (1, 3, H, W), as the network expects it."""
    return normalise(torch.from_numpy(rgb)[None].permute(0, 3, 1, 2).float()).numpy()


def write_png(png: bytes) -> bytes:
    """A request of ours and of (b)."""
    text = base64.b64encode(png).decode("ascii")
    return json.dumps({"dataframe_split": {"columns": ["image"], "data": [[text]]}}).encode()


def write_tensor(pixels: NDArray[np.float32]) -> bytes:
    """A request of (a)."""
    return json.dumps({"inputs": pixels.tolist()}).encode()


def read_png(answer: bytes) -> Mask:
    """The mask in an answer of ours and of (b)."""
    png = base64.b64decode(json.loads(answer)["predictions"][0]["mask"])
    mask = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    return np.asarray(np.asarray(mask) > 0, np.uint8)


def read_tensor(answer: bytes) -> Mask:
    """The mask in an answer of (a)."""
    return np.asarray(np.asarray(json.loads(answer)["predictions"], np.float32)[0, 0] >= 0.5, np.uint8)


@contextlib.contextmanager
def servers(made: MadeVersion, folder: Path) -> Iterator[dict[str, Server]]:
    """All three, up and asked the same image."""
    tracking = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(tracking)
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("benchmark", (folder / "artifacts").as_uri()))
    with mlflow.start_run(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's advice to the author of (b)
        uris = {
            OURS: log_ours(made),
            PYTORCH: log_pytorch(made),
            PYFUNC: log_pyfunc(made, folder),
        }
    rgb, _ = drawn(PROBE)
    png, pixels = png_of(rgb), pixels_of(rgb)
    ready = write_tensor(pixels)
    with contextlib.ExitStack() as stack:
        urls = {
            name: stack.enter_context(
                scoring_server(uri, tracking, log=folder / f"{name}.log", environment=ENVIRONMENT)
            )
            for name, uri in uris.items()
        }
        yield {
            OURS: Server(urls[OURS], lambda: write_png(png), read_png),
            PYTORCH: Server(urls[PYTORCH], lambda: write_tensor(pixels), read_tensor),
            READY: Server(urls[PYTORCH], lambda: ready, read_tensor),
            PYFUNC: Server(urls[PYFUNC], lambda: write_png(png), read_png),
        }


def disagreements(up: dict[str, Server], *, warm: bool) -> list[str]:
    """The peers whose mask is not ours; to be measured, every server is warmed up first by some requests."""
    masks = {}
    for name, server in up.items():
        if warm:
            server.rate(1)
        with server.connect() as connection:
            masks[name] = server.ask(connection)
    return [name for name, mask in masks.items() if float((mask == masks[OURS]).mean()) < MIN_AGREEMENT]


def main(given: Sequence[str] | None = None) -> int:
    """Measure and say whether the figures hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a short run that shows that it works; proves nothing")
    parser.add_argument("--version", type=Path, help="a folder of benchmarks.engine --keep; else one is made")
    options = parser.parse_args(given)
    rounds = 1 if options.smoke else 5
    # Requests a client: (a) takes ten times as long for each.
    alone = {OURS: 30, PYTORCH: 6, READY: 6, PYFUNC: 30}
    together = {OURS: 12, PYTORCH: 2, READY: 2, PYFUNC: 12}
    if options.smoke:
        alone = together = dict.fromkeys(alone, 1)
    console = Console()
    quiet()
    with tempfile.TemporaryDirectory(prefix="resunet-benchmark-") as name:
        folder = Path(name)
        # MLflow names the artifact's folder after this one.
        made = copy_or_make(folder / VERSION_ARTIFACT, options.version, smoke=options.smoke)
        print_choice(made, console)
        with servers(made, folder) as up:
            differing = disagreements(up, warm=not options.smoke)
            latencies = interleave({n: _latency(up[n], alone[n]) for n in up}, rounds)
            rates = interleave({n: _rate(up[n], together[n]) for n in up}, rounds)
    title = f"mlflow models serve, one {SIDE}x{SIDE} image, width {made.spec.width}"
    wanted = [(PYTORCH, OURS, 8.0), (PYFUNC, OURS, 1.2)]
    held = print_comparison(f"{title}: latency of 1 client", latencies, "ms", wanted, console)
    wanted = [(OURS, PYTORCH, 8.0), (OURS, PYFUNC, 1.2)]
    held &= print_comparison(f"{title}: rate of {CLIENTS} clients", rates, "requests/s", wanted, console)
    if differing:
        console.print(f"other masks than ours: {', '.join(differing)}", style="red")
    return 0 if (held or options.smoke) and not differing else 1


def _latency(server: Server, requests: int) -> Callable[[], float]:
    return lambda: server.latency(requests)


def _rate(server: Server, requests: int) -> Callable[[], float]:
    return lambda: server.rate(requests)


if __name__ == "__main__":
    sys.exit(main())
