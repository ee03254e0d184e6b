import json
from pathlib import Path

import pytest
from small_versions import evaluation, scores

from registry.evidence import EVALUATION_FILE, Evaluation
from resunet.errors import VersionError


def test_an_evaluation_reads_back_as_it_was_written(tmp_path: Path) -> None:
    written = evaluation(scores(0.8))
    written.write(tmp_path)
    assert Evaluation.read(tmp_path) == written


def test_a_missing_evaluation_says_so(tmp_path: Path) -> None:
    with pytest.raises(VersionError, match=r"evaluation\.json is missing"):
        Evaluation.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"format_version": 2}, "format_version"),
        ({"split": "train"}, "split"),
        ({"images": 11}, "counts 11 images but scores 12"),
        ({"overall": {"dice": {"mean": 0.99, "low": 0.98, "high": 1.0}}}, "its images give 0.8000"),
        ({"overall": {"iou": {"mean": 0.8, "low": 0.8, "high": 0.8}}}, "no dice"),
        ({"fingerprint": ""}, "fingerprint"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_an_evaluation_that_is_unknown_or_contradicts_itself_is_refused(
    tmp_path: Path, change: dict[str, object], named: str
) -> None:
    content = evaluation(scores(0.8)).model_dump(mode="json") | change
    (tmp_path / EVALUATION_FILE).write_text(json.dumps(content))
    with pytest.raises(VersionError, match=named):
        Evaluation.read(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format_version": NaN}'])
def test_what_is_not_an_evaluation_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / EVALUATION_FILE).write_text(text)
    with pytest.raises(VersionError, match="not understood"):
        Evaluation.read(tmp_path)


def test_an_image_cannot_count_twice(tmp_path: Path) -> None:
    content = evaluation(scores(0.8, spread=0.0)).model_dump(mode="json")
    content["per_image"][1] = content["per_image"][0]
    (tmp_path / EVALUATION_FILE).write_text(json.dumps(content))
    with pytest.raises(VersionError, match="scored twice"):
        Evaluation.read(tmp_path)
