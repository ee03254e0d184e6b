"""The largest image is answered in memory that is bounded, from its bytes to the answer's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from version_factory import ROOT, make_spec, write_version

LARGEST_MB = 1500

PROGRAM = """
import base64, io, json, os, sqlite3, sys, time
import cv2, numpy as np
from peak_memory import peak_bytes
from mlflow.pyfunc import scoring_server
from mlflow.pyfunc.model import PythonModelContext
from serving.pyfunc import SegmentationModel, signature

root, picture = sys.argv[1:]
model = SegmentationModel()
model.load_context(PythonModelContext({"version": root}, None))

def body():
    with open(picture, "rb") as file:
        text = base64.b64encode(file.read()).decode()
    return json.dumps({"dataframe_split": {"columns": ["image", "request_id"], "data": [[text, "large"]]}})

# As the scoring server does: it holds the body while the model works.
sent, started = body(), time.monotonic()
parsed, params = scoring_server._split_data_and_params(sent)
frame = scoring_server.infer_and_parse_data(parsed, signature(model.predictor.spec).inputs)
del parsed
answer = model.predict(PythonModelContext({}, None), frame, params)
written = io.StringIO()
scoring_server.predictions_to_json(answer, written)
seconds = time.monotonic() - started
peak_mb = peak_bytes() / 2**20
row = json.loads(written.getvalue())["predictions"][0]
mask = cv2.imdecode(np.frombuffer(base64.b64decode(row["mask"]), np.uint8), cv2.IMREAD_UNCHANGED)
same = float((mask[1001:1999, 1001:1999] == mask[3001:3999, 5001:5999]).mean())
model.logbook._log.drain_now()
with sqlite3.connect(os.environ["RESUNET_INFERENCE_LOG"].removeprefix("sqlite:///")) as database:
    logged = database.execute("select request_id, status, width from predictions").fetchall()
print(json.dumps({"peak_mb": peak_mb, "shape": mask.shape, "same": same, "found": float((mask > 0).mean()),
                  "logged": logged, "body_mb": len(sent) / 1e6, "seconds": seconds}))
"""

PICTURE = """
import sys
import cv2, numpy as np
from version_factory import draw
cv2.imwrite(sys.argv[1], np.tile(draw(1000, 1000), (10, 10, 1)), [cv2.IMWRITE_PNG_COMPRESSION, 1])
"""


def test_ten_thousand_pixels_a_side_are_answered_in_bounded_memory(tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak of a process's memory is read from Linux's /proc")
    write_version(tmp_path / "version", spec=make_spec(whole_side=1024, core=512))

    def run(program: str, *arguments: str) -> str:
        # A process of its own: the peak must not be that of the tests before.
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=ROOT,
            env={
                "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'code'}",
                "RESUNET_HOME": str(tmp_path / "home"),
                "RESUNET_INFERENCE_LOG": f"sqlite:///{tmp_path / 'log.db'}",
            },
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    run(PICTURE, str(tmp_path / "picture.png"))
    result = json.loads(run(PROGRAM, str(tmp_path / "version"), str(tmp_path / "picture.png")))
    assert result["shape"] == [10_000, 10_000]
    assert result["same"] >= 0.9999 and 0 < result["found"] < 1  # the picture repeats, and so does its mask
    assert result["logged"] == [["large", "ok", 10_000]]
    assert result["peak_mb"] < LARGEST_MB
