"""What a version takes and refuses is found out by asking it, in a process that is told no secret."""

import base64
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from PIL import Image, UnidentifiedImageError
from version_factory import draw, encode, make_spec, register_version, write_version

from pipelines.evidence.contract import contract
from pipelines.evidence.own_code import foreign_code
from pipelines.evidence.probe import BAD, wrong_answer
from pipelines.evidence.subject import Version
from records.digests import write_digests
from records.trust import Trust
from registry.signing import keygen, sign
from serving.pyfunc import signature

Model = Callable[..., Version]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trust]:
    """A private key, and what trusts it."""
    private, public = keygen(tmp_path_factory.mktemp("keys"))
    return private, Trust(keys=public)


@pytest.fixture
def trust(keys: tuple[Path, Trust]) -> Trust:
    """What makes it possible to run code that is not this installation's."""
    return keys[1]


EXAMPLE = pd.DataFrame({"image": [encode(draw(30, 40))]})

# Columns and a mask as the contract has them, whatever it is given.
ANSWERS = """
import base64, io, os
import mlflow, pandas as pd
from PIL import Image

class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        def mask(image):
            with io.BytesIO() as file:
                Image.new("L", (40, 30)).save(file, "PNG")
                return base64.b64encode(file.getvalue()).decode()
        row = dict(width=40, height=30, foreground_fraction=0.5, confidence=0.5, model_version="1", request_id="a")
        return pd.DataFrame([{{"mask": mask(image), **row}} for image in model_input["image"]])

{first}
mlflow.models.set_model(Model())
"""


@pytest.fixture
def model(tmp_path: Path, keys: tuple[Path, Trust]) -> Model:
    """Makes an MLflow model whose code answers everything; `first` runs when it is loaded."""

    def make(first: str = "", signed: bool = True) -> Version:
        script, folder = tmp_path / "script.py", tmp_path / "model"
        script.write_text(ANSWERS.format(first=""))
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(script),
            signature=signature(make_spec()),
            input_example=EXAMPLE,
            pip_requirements=["pandas"],
        )
        (folder / script.name).write_text(ANSWERS.format(first=first))
        write_digests(folder)
        if signed:
            sign(folder, keys[0])
        return Version.checked("version 7", folder)

    return make


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Version:
    folder = tmp_path_factory.mktemp("a real version")
    write_version(folder / "version")
    register_version(folder / "version", folder / "store")
    (found,) = (folder / "store").rglob("MLmodel")
    return Version.checked("version 1", found.parent)


def test_a_version_of_this_platform_answers_its_example_and_refuses_the_rest(real: Version) -> None:
    found = contract(real, None)
    assert found.example == ""
    assert set(found.refused) == set(BAD) and all(found.refused.values())
    assert "image is missing" in found.refused["no image at all"]
    assert "truncated" in found.refused["a PNG that is cut off"]
    # MLflow's own words begin with the frame that it was given.
    assert "schema" in found.refused["a number"] and len(found.refused["a number"]) > 80
    assert json.loads(found.inputs)[0]["name"] == "image"
    assert "confidence" in found.outputs and "mask_format" in found.params
    assert Version.checked("version 1", real.model).digest == real.digest


def test_a_version_that_answers_garbage_is_found(model: Model, trust: Trust) -> None:
    found = contract(model(), trust)
    assert found.example == ""
    answered = {name for name, told in found.refused.items() if not told}
    # What has no image or no bytes in it, MLflow refuses for every model.
    assert answered == {"text in place of an image", "no bytes", "a PNG that is cut off", "no image at all"}


def answer(width: int = 40, height: int = 30, **columns: Any) -> pd.DataFrame:
    with io.BytesIO() as file:
        Image.new("L", (width, height)).save(file, "PNG")
        mask = base64.b64encode(file.getvalue()).decode()
    names = ("mask", "width", "height", "foreground_fraction", "confidence", "model_version", "request_id")
    return pd.DataFrame([{**dict.fromkeys(names, 1), "mask": mask, **columns}])


def test_an_answer_that_is_none_is_told() -> None:
    schema = signature(make_spec()).outputs
    assert wrong_answer(answer(), EXAMPLE, schema) == ""
    for given, told in (
        (answer(30, 40), "its mask is 30 x 40 pixels, the image 40 x 30"),
        (answer().drop(columns="confidence"), "its signature says mask, width, height, foreground_fraction, conf"),
        (answer(extra=1), "request_id, extra; its signature"),
        (answer().head(0), "it answers 1 images with 0 rows"),
        ({"mask": 1}, "its answer is dict"),
    ):
        assert told in wrong_answer(given, EXAMPLE, schema)
    assert "signature says nothing" in wrong_answer(answer(), EXAMPLE, None)
    with pytest.raises(UnidentifiedImageError):
        wrong_answer(answer(mask="bm9uZQ=="), EXAMPLE, schema)


def test_a_version_that_does_not_load_says_why(model: Model, trust: Trust) -> None:
    found = contract(model("raise ValueError('no weights')"), trust)
    assert found.example == "it does not load: ValueError: no weights" and found.refused == {}


def test_a_version_that_ends_its_process_is_one_that_does_not_load(model: Model, trust: Trust) -> None:
    found = contract(model("os._exit(7)"), trust)
    assert found.example == "it does not load: its process ended with exit code 7"


def test_what_a_version_prints_is_not_taken_for_a_finding(model: Model, trust: Trust) -> None:
    forged = json.dumps({"example": "", "refused": {"all": "refused"}})
    prints = f"import atexit\nprint({forged!r})\natexit.register(print, {forged!r})"
    assert set(contract(model(prints), trust).refused) == set(BAD)


def test_its_code_is_told_no_secret_and_logs_nothing(
    model: Model, real: Version, trust: Trust, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESUNET_DATABASE", "postgresql+psycopg://user:hush@127.0.0.1/records")
    monkeypatch.setenv("RESUNET_INFERENCE_LOG", f"sqlite:///{tmp_path / 'log.db'}")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hush")
    monkeypatch.setenv("SOME_TOKEN", "hush")
    found = contract(model("raise ValueError(str([n for n in os.environ if 'hush' in os.environ[n]]))"), trust)
    assert found.example.endswith("ValueError: []")
    assert contract(real, None).example == "" and not (tmp_path / "log.db").exists()


def test_code_of_somebody_else_is_run_only_where_who_signed_it_is_trusted(
    model: Model, keys: tuple[Path, Trust], tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    version = model(f"open({str(ran)!r}, 'w')", signed=False)
    for trust, told in ((None, "nobody is trusted here"), (keys[1], "the version is not signed")):
        found = contract(version, trust)
        assert "its code is not that of this installation (MLmodel)" in found.not_run and told in found.not_run
        assert (found.example, found.refused) == ("", {}) and found.inputs
    assert not ran.exists()
    sign(version.model, keys[0])
    found = contract(version, keys[1])
    assert (found.not_run, found.example) == ("", "") and ran.exists()


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("alter", "told"),
    [
        (lambda root: (root / "code" / "numpy.py").write_text("boom"), "code/numpy.py"),
        (lambda root: (root / "code" / "serving" / "more.py").write_text("boom"), "code/serving/more.py"),
        (lambda root: change(root / "code" / "serving" / "pyfunc.py", "import", "import "), "code/serving/pyfunc.py"),
        (lambda root: change(root / "model_code.py", "set_model(", "set_model( "), "model_code.py"),
        (lambda root: change(root / "MLmodel", "loaders.code_model", "model"), "MLmodel"),
        (lambda root: change(root / "MLmodel", "streamable: false", "streamable: false\n    config: x"), "MLmodel"),
        (lambda root: change(root / "MLmodel", "  python_function:", "  sklearn: {}\n  other:"), "MLmodel"),
        (lambda root: (root / "MLmodel").write_text("flavors: []"), "MLmodel"),
    ],
)
def test_a_version_whose_code_is_not_this_installations_is_told_by_the_file(
    real: Version, tmp_path: Path, alter: Callable[[Path], object], told: str
) -> None:
    assert foreign_code(real.model) == ""
    shutil.copytree(real.model, tmp_path / "model")
    alter(tmp_path / "model")
    assert foreign_code(tmp_path / "model") == told


def test_a_version_that_takes_for_ever_is_ended(model: Model, trust: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.evidence.contract._SECONDS", 1)
    found = contract(model("import time\ntime.sleep(600)"), trust)
    assert found.example == "it does not load: nothing came of it in 1 s"
