"""Environments of the peers, and a running server in one of them.

    python -m benchmarks.peers.environments litserve bentoml mlserver ray      # makes .venv/peers/<name>

    with running("litserve", version, folder) as asked: …

What a peer pins comes first in its environment, and what it does not from the project's own: so all of them share one
engine.
"""

import argparse
import base64
import contextlib
import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.gateway_clients import Ask, wait_for_answer
from benchmarks.peers.work import TORCH, VERSION
from pipelines.servers import free_port, start_group, stop_group

ROOT: Final = Path(__file__).resolve().parents[2]
_FOLDER: Final = ROOT / ".venv" / "peers"
_START_SECONDS: Final = 180.0


@dataclass(frozen=True)
class Peer:
    """A server of models.

    Attributes:
        requirements: what is installed.
        command: given its environment's `bin` folder, a port and an empty folder.
        path: that is asked.
        body: made of an image in base64.
    """

    requirements: tuple[str, ...]
    command: Callable[[Path, int, Path], list[str]]
    path: str
    body: Callable[[str], object]


def _mlserver(binaries: Path, port: int, folder: Path) -> list[str]:
    settings = {"host": "127.0.0.1", "http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    (folder / "settings.json").write_text(json.dumps(settings))
    model = {"name": "resunet", "implementation": "benchmarks.peers.mlserver_runtime.Segment"}
    (folder / "model-settings.json").write_text(json.dumps(model))
    return [str(binaries / "mlserver"), "start", str(folder)]


def _protocol(image: str) -> object:
    return {"inputs": [{"name": "image", "shape": [1, 1], "datatype": "BYTES", "data": [image]}]}


PEERS: Final[Mapping[str, Peer]] = {
    "litserve": Peer(
        ("litserve==0.2.19",),
        lambda binaries, port, _: [str(binaries / "python"), "-m", "benchmarks.peers.litserve_server", str(port)],
        "/predict",
        lambda image: {"image": image},
    ),
    "bentoml": Peer(
        ("bentoml==1.4.39",),
        lambda binaries, port, _: [
            *(str(binaries / "bentoml"), "serve", "benchmarks.peers.bentoml_service:Segment"),
            *("--host", "127.0.0.1", "--port", str(port)),
        ],
        "/segment",
        lambda image: {"image": image},
    ),
    # Its workers ask for the event loop of a thread that has none, which later uvloops no longer make.
    "mlserver": Peer(("mlserver==1.7.1", "uvloop==0.21.0"), _mlserver, "/v2/models/resunet/infer", _protocol),
    "ray": Peer(
        ("ray[serve]==2.60.0",),
        lambda binaries, port, _: [str(binaries / "python"), "-m", "benchmarks.peers.ray_server", str(port)],
        "/",
        lambda image: {"image": image},
    ),
}


def installed() -> list[str]:
    """Names of the peers that have an environment."""
    return [name for name in PEERS if (_FOLDER / name / "ready").exists()]


def install(name: str) -> None:
    """Make a peer's environment anew."""
    folder = _FOLDER / name
    venv.create(folder, clear=True, with_pip=True)
    subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "-q", *PEERS[name].requirements], check=True)
    theirs = next((folder / "lib").glob("python*")) / "site-packages"
    (theirs / "resunet_after_all_else.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n{ROOT}\n")
    (folder / "ready").touch()


@contextlib.contextmanager
def running(name: str, version: Path, folder: Path, image: bytes, *, torch: bool = False) -> Iterator[Ask]:
    """A peer that has answered once, with a version.

    Args:
        version: its folder.
        folder: for its log and its home; it is made.
        image: an encoded one.
        torch: it runs the network in torch.
    """
    folder.mkdir(parents=True)
    peer, port = PEERS[name], free_port()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RESUNET_", "MLFLOW_"))}
    environment = kept | {
        VERSION: str(version),
        TORCH: str(int(torch)),
        "RESUNET_HOME": str(folder / "home"),
        "RESUNET_INFERENCE_LOG": f"sqlite:///{folder / 'log.db'}",
        "PYTHONPATH": str(ROOT),
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = peer.command(_FOLDER / name / "bin", port, folder)
    process = start_group(command, environment, ROOT, folder / "server.log")
    body = json.dumps(peer.body(base64.b64encode(image).decode())).encode()
    asked = Ask(f"http://127.0.0.1:{port}", peer.path, body, {"Content-Type": "application/json"})
    try:
        wait_for_answer(process, asked, _START_SECONDS)
        yield asked
    finally:
        stop_group(process)


def main(given: Sequence[str] | None = None) -> int:
    """Make environments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=list(PEERS))
    for name in parser.parse_args(given).names:
        print(f"{name}: {', '.join(PEERS[name].requirements)}", file=sys.stderr)
        install(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
