"""What is measured of a version: documents that read back as they were written, and refuse what they do not know."""

import json
from pathlib import Path

import pytest
from gate_evidence import (
    calibration,
    contract,
    data_check,
    dependencies,
    engine,
    lineage,
    overlap,
    parity,
    performance,
    robustness,
    version,
)
from gate_evidence import evidence as bundle
from small_versions import evaluation, scores

from registry.evidence import DOCUMENTS, EVALUATION_FILE, Document, Evaluation, Lineage, Robustness
from registry.evidence.documents import SCORES, parse_document
from resunet.errors import RecordsError, VersionError


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


DOCUMENTS_WITH_CONTENT: list[Document] = [
    lineage(same=["images/1.png"], changed=[("images/2.png", "images/3.png")], ancestors=["3"]),
    overlap(
        evaluation(scores(0.9)),
        evaluation(scores(0.8)),
        contract(),
        slices={"stain=a": []},
        slice_images={"stain=a": 2},
    ),
    robustness({"blur": [0.1, 0.2], "noise": [0.0, 0.1]}, groups=["a", None]),
    calibration(0.05, 0.04, 0.06),
    parity(engine("int8"), engine("fp32", serves=False)),
    performance([1.0, 2.0, 3.0], [2.0, 2.0, 2.0]),
    performance([1.0, 2.0, 3.0]),
    contract(example="it does not load"),
    dependencies(vulnerabilities=None, not_audited="no network"),
    data_check(near_test=[("images/1.png", "images/2.png")]),
]


def test_every_kind_of_document_reads_back_as_it_was_written() -> None:
    assert {document.kind for document in DOCUMENTS_WITH_CONTENT} == set(DOCUMENTS)
    for document in DOCUMENTS_WITH_CONTENT:
        assert parse_document(document.kind, document.model_dump_json()) == document


def test_scores_are_a_kind_of_their_own() -> None:
    written = evaluation(scores(0.8))
    assert parse_document(SCORES, written.model_dump_json()) == written


def test_a_kind_of_a_later_release_is_told() -> None:
    with pytest.raises(RecordsError, match="of a kind 'smell' that this release does not know: upgrade it"):
        parse_document("smell", "{}")


def _with(document: Document, **changes: object) -> str:
    return json.dumps(document.model_dump(mode="json") | changes)


@pytest.mark.parametrize(
    ("document", "changes", "named"),
    [
        (lineage(), {"format_version": 2}, "format_version"),
        (lineage(), {"surprise": 1}, "surprise"),
        (lineage(), {"test_images": 0}, "test_images"),
        (robustness({"blur": [0.1]}), {"clean": [0.9, 0.9]}, "one value an image"),
        (robustness({"blur": [0.1]}), {"conditions": {}}, "conditions"),
        (robustness({"blur": [0.1]}), {"clean": [float("nan")]}, "clean"),
        (performance([1.0] * 3, [1.0] * 3), {"champion_p95_ms": [1.0] * 2}, "not measured in the same rounds"),
        (performance([1.0] * 3, [1.0] * 3), {"champion_mb": None}, "half of what was measured"),
        (performance([1.0] * 3), {"champion_mb": 400.0}, "half of what was measured"),
        (performance([1.0] * 3), {"candidate_p95_ms": [1.0, 1.0]}, "candidate_p95_ms"),
        (performance([1.0] * 3, [1.0] * 3), {"champion_p95_ms": [1.0, 0.0, 1.0]}, "above 0"),
        (parity(engine()), {"engines": []}, "engines"),
    ],
)
def test_a_document_that_is_unknown_or_contradicts_itself_is_refused(
    document: Document, changes: dict[str, object], named: str
) -> None:
    with pytest.raises(RecordsError, match=f"stored evidence `{document.kind}` is not understood") as refused:
        parse_document(document.kind, _with(document, **changes))
    assert named in str(refused.value)
    assert "measure again" in str(refused.value)


def test_a_bundle_gives_a_document_by_its_kind_and_scores_only_of_the_records() -> None:
    boast = version("7", lineage(), evaluation=evaluation(scores(0.9)))
    assert boast.get(Lineage) == lineage()
    assert (boast.get(Robustness), boast.scores) == (None, None)
    measured = evaluation(scores(0.8))
    assert version("7", measured).scores == measured


def test_the_command_that_measures_names_model_version_and_stage() -> None:
    asked = bundle(stage="Staging")
    assert asked.check == "python -m registry check resunet 7 --stage Staging"
