"""A registered version is served as it was made, or not at all: MLflow's own loader refuses changed files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "code"))

from version_factory import draw, encode, register_version, write_version

from registry.signing import keygen

PROGRAM = """
import sys
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
frame = pd.DataFrame({"image": [open(sys.argv[2], "rb").read()], "slice": pd.Series([None], dtype="string")})
print("answered", model.predict(frame)["model_version"][0])
"""


def load(uri: str, tracking_uri: str, folder: Path, public: Path) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RESUNET_")}
    environment |= {
        "MLFLOW_TRACKING_URI": tracking_uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "RESUNET_TRUSTED_KEY": str(public),
    }
    command = [sys.executable, "-c", PROGRAM, uri, str(folder / "image.png")]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_a_signed_version_loads_as_often_as_asked_and_a_tampered_one_never(tmp_path: Path) -> None:
    private, public = keygen(tmp_path / "keys")
    write_version(tmp_path / "version")
    tracking_uri, uri = register_version(tmp_path / "version", tmp_path / "store", signing_key=private)
    (tmp_path / "image.png").write_bytes(encode(draw(64, 80)))
    for _ in range(2):  # the second time Python finds what it compiled the first time
        done = load(uri, tracking_uri, tmp_path, public)
        assert done.stdout.strip() == "answered 1", done.stderr[-3000:]
    (graph,) = (tmp_path / "store").rglob("artifacts/version/model.onnx")
    content = bytearray(graph.read_bytes())
    content[-1] ^= 1
    graph.write_bytes(content)
    done = load(uri, tracking_uri, tmp_path, public)
    assert done.returncode != 0 and "changed: 'artifacts/version/model.onnx'" in done.stderr


@pytest.mark.parametrize("workers", [3])
def test_several_workers_may_load_one_folder_at_once(tmp_path: Path, workers: int) -> None:
    private, public = keygen(tmp_path / "keys")
    write_version(tmp_path / "version")
    tracking_uri, _ = register_version(tmp_path / "version", tmp_path / "store", signing_key=private)
    (tmp_path / "image.png").write_bytes(encode(draw(64, 80)))
    (marker,) = (tmp_path / "store").rglob("MLmodel")
    program = f"import sys; sys.argv = ['', {str(marker.parent)!r}, {str(tmp_path / 'image.png')!r}]\n{PROGRAM}"
    environment = dict(os.environ) | {"MLFLOW_TRACKING_URI": tracking_uri, "RESUNET_TRUSTED_KEY": str(public)}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(workers)
    ]
    for process in started:
        out, problem = process.communicate(timeout=120)
        assert out.startswith("answered"), problem[-3000:]
