"""Around the model: refusals without data, an environment without torch, memory shared by all requests."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from version_factory import ROOT, draw, encode, write_version

from resunet.errors import RecordsError, SettingsError
from serving.errors import BusyError, LateError, RowError
from serving.request import make_rows, measure
from serving.requirements import model_requirements
from serving.scoring import RequestError, as_request_error, explain

GOOD = encode(draw(32, 32))


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("version")
    write_version(root)
    return root


def test_the_message_of_a_refusal_cannot_be_rewritten() -> None:
    error = RequestError("row 0: the file is empty", 413)
    error.message = f"Failed to predict data '{GOOD!r}'. \nError: {error.message}"
    answer = json.loads(error.serialize_as_json())
    assert answer["message"] == "row 0: the file is empty" and error.get_http_status_code() == 413


def test_what_serves_imports_no_training_plotting_or_logging_package(version: Path) -> None:
    code = (
        "import sys; from serving.pyfunc import SegmentationModel; "
        "from mlflow.pyfunc.model import PythonModelContext; m = SegmentationModel(); "
        f"m.load_context(PythonModelContext({{'version': {str(version)!r}}}, None)); "
        "banned = ['torch', 'scipy', 'matplotlib', 'sklearn', 'typer', 'rich', 'records.inference', 'sqlalchemy', "
        "'model_signing']; "
        "print([name for name in banned if name in sys.modules])"
    )
    # The full MLflow imports scipy and scikit-learn where they are installed, so they are hidden here.
    hide = "import sys; sys.modules.update(dict.fromkeys(['scipy', 'sklearn', 'matplotlib', 'torch'])); "
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            hide + code.replace("in sys.modules]", "in sys.modules and sys.modules[name]]"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_requirements_are_pinned_like_the_project_and_hold_no_torch(tmp_path: Path) -> None:
    lines = model_requirements(ROOT / "pyproject.toml")
    assert all("==" in line for line in lines)
    names = {line.split("==")[0] for line in lines}
    assert {"mlflow-skinny", "onnxruntime", "openvino", "pandas"} <= names
    assert {"model-signing", "pyOpenSSL"} <= names, "a server that trusts a key has to check signatures"
    assert not {"torch", "mlflow", "scipy", "matplotlib", "evidently"} & names
    (tmp_path / "pyproject.toml").write_text('[project]\ndependencies = ["numpy"]\n[project.optional-dependencies]\n')
    with pytest.raises(SettingsError, match=r"does not pin .*numpy"):
        model_requirements(tmp_path / "pyproject.toml")


SECRET = base64.b64encode(GOOD).decode()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            '{"dataframe_split": {"columns": ["image"], "data": [["' + SECRET,
            "not valid JSON from line 1, column 54",
        ),
        ([[SECRET]], "must be a JSON object"),
        ({"dataframe_split": {"columns": ["image"], "data": [[SECRET], [None]]}}, "row 1: image is missing"),
        ({"dataframe_records": [{"image": SECRET}, {"image": 3}]}, "row 1: image must be base64 text"),
        ({"dataframe_records": [{"image": SECRET[:-1]}]}, "row 0: image is not valid base64"),
        (
            {"dataframe_records": [{"image": SECRET}, {"image": f"data:image/png;base64,{SECRET}"}]},
            "row 1: image begins with data:…;base64, as a URL does: leave that out",
        ),
        ({"dataframe_records": [{"picture": SECRET}]}, "the column image is missing"),
        ({"dataframe_split": {"columns": ["image"], "data": [[SECRET, SECRET]]}}, "not a table"),
        (
            {"dataframe_records": [{"image": SECRET}], "params": {"threshold": SECRET}},
            "threshold must be a number",
        ),
        ({"dataframe_records": [{"image": SECRET}], "params": [SECRET]}, "params must be an object"),
        ({"inputs": {"image": [SECRET]}}, "either dataframe_split or dataframe_records"),
        ("[" * 100_000, "nesting too large"),
    ],
)
def test_what_mlflow_cannot_read_is_explained_without_its_values(body: Any, message: str) -> None:
    text = explain(body if isinstance(body, str) else json.dumps(body), "application/json")
    assert message in text
    assert SECRET[20:32] not in text


JPEG = base64.b64encode(encode(draw(32, 32), "JPEG"))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (SECRET.encode(), "row 0: image arrived as base64 text, not as an image file"),
        (base64.encodebytes(GOOD), "row 0: image arrived as base64 text, not as an image file"),
        (b"data:image/png;base64," + SECRET.encode(), "row 0: image begins with data:…;base64,"),
        # As MLflow decodes it: what is no sign of base64 is skipped.
        (base64.decodebytes(b"data:image/jpeg;base64," + JPEG), "row 0: image begins with data:…;base64,"),
        (b"x" * 4000, "row 0: the file is not an image of an accepted format"),
        (base64.b64encode(b"GIF89a" * 40), "row 0: the file is not an image of an accepted format"),
    ],
)
def test_a_good_image_in_another_clothing_is_told_apart_from_what_is_none(data: bytes, told: str) -> None:
    with pytest.raises(RowError) as refused:
        measure(make_rows([data], {}, 1, 20))
    assert str(refused.value).startswith(told)
    assert SECRET[20:32] not in str(refused.value) and refused.value.status == 400


def test_what_is_late_busy_or_unlogged_is_told_without_a_path() -> None:
    told = [as_request_error(error) for error in (LateError("late"), BusyError("busy"), RecordsError("/srv/spool"))]
    assert [error.get_http_status_code() for error in told] == [504, 503, 503]
    codes = [json.loads(error.serialize_as_json())["error_code"] for error in told]
    assert codes == ["DEADLINE_EXCEEDED", "TEMPORARILY_UNAVAILABLE", "TEMPORARILY_UNAVAILABLE"]
    assert [error.message for error in told[:2]] == ["late", "busy"]
    assert "could not be logged" in told[2].message and "/srv" not in told[2].serialize_as_json()


def test_the_server_s_words_name_the_path_in_its_own_log(caplog: pytest.LogCaptureFixture) -> None:
    as_request_error(RecordsError("the spool /srv/spool is full"))
    assert "the spool /srv/spool is full" in caplog.text


def test_other_content_types_are_explained() -> None:
    assert "text/csv" in explain(GOOD, "text/csv; charset=utf-8")
    assert "no content type" in explain(GOOD, "")
