"""`registry show`: what it tells of a version, from where, and what it notices."""

import io
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from mlflow.entities.model_registry import ModelVersion
from pydantic import TypeAdapter
from records_rows import prediction
from reported_versions import COMMIT, GRACE, NAME, POLICY, ReportShelf
from rich.console import Console
from small_versions import evaluation, lineage, scores

from records import identities
from records.inference import InferenceLog
from registry.evidence import VERSION_FOLDER, Dependencies, SliceResult
from registry.lifecycle import Lifecycle
from registry.reports.show import Shown, show
from registry.reports.show_table import say_version
from resunet.errors import RefusedError, SettingsError


def printed(shown: Shown) -> str:
    stream = io.StringIO()
    say_version(Console(file=stream, width=200), shown)
    return "\n".join(each.rstrip() for each in stream.getvalue().splitlines())


def line(text: str, name: str) -> str:
    """A section of the screen: its first line and those that are indented below it."""
    found: list[str] = []
    for each in text.splitlines():
        if found and each[:1] != " ":
            break
        if found or each.startswith(name):
            found.append(each)
    assert found, f"{name} is not in {text}"
    return "\n".join(found)


def test_one_screen_tells_where_a_version_came_from_and_how_good_it_is(shelf: ReportShelf) -> None:
    version = shelf.version(0.9, params={"width": "8", "seed": "3", "parent": ""})
    dependencies = Dependencies(pinned=["mlflow==3.0", "numpy==2.0", "tiny==1"])
    shelf.plant(shelf.digest(version), dependencies)
    text = printed(shelf.show(version))
    assert "version 1 of resunet: None" in line(text, "version")
    assert shelf.digest(version) in line(text, "bytes")
    assert "(run 1) by ada" in line(text, "run")
    assert line(text, "parameters").split(None, 1)[1] == "width 8, seed 3; 1 more (--json)"
    assert "none: it started from random weights" in line(text, "parent")
    assert "nuclei, sha256:data (train 63, validation 14, test 12)" in line(text, "data")
    assert f"commit {COMMIT}, working tree clean" in line(text, "code")
    assert "dice 0.9000 [0.8800, 0.9200]" in line(text, "evaluation")
    assert "12 images" in line(text, "evaluation")
    assert "nobody has asked them: python -m registry check resunet 1" in line(text, "gates")
    assert "none" in line(text, "approvals") and "none" in line(text, "decisions")
    assert "RESUNET_INFERENCE_LOG names no log" in line(text, "deployments")
    assert len(text.splitlines()) < 40


def test_gates_decisions_and_place_are_those_of_the_records(shelf: ReportShelf) -> None:
    first, second, worse = shelf.version(0.9), shelf.version(0.91), shelf.version(0.5)
    shelf.promote(first, "it was [first]")
    shelf.promote(second, "it is better")
    with pytest.raises(RefusedError):
        shelf.promote(worse)
    text = printed(shelf.show(second))
    assert "version 2 of resunet: Production, @champion" in line(text, "version")
    gates = line(text, "gates, Production")
    assert "allowed" in gates and "asked by ada" in gates and "pass: intact, evaluated, floor, champion" in gates
    assert "not applicable: signed" in gates and "void" not in gates
    assert "promote None → Production by ada: it is better" in line(text, "decisions")
    text = printed(shelf.show(first))
    assert "version 1 of resunet: Archived; version 2 is live" in line(text, "version")
    assert "displace Production → Archived by ada" in line(text, "decisions")
    assert "promote None → Production by ada: it was [first]" in line(text, "decisions")
    text = printed(shelf.show(worse))
    assert "blocked" in line(text, "gates, Production")
    assert "fail: floor: mean Dice 0.5000 < 0.7000" in line(text, "gates, Production")


def test_a_verdict_is_void_once_what_it_was_given_for_has_changed(shelf: ReportShelf) -> None:
    first, second, third = shelf.version(0.9), shelf.version(0.91), shelf.version(0.92)
    shelf.promote(first)
    shelf.life.check(NAME, third, "Production", GRACE)
    (verdict,) = shelf.show(third).verdicts
    assert verdict.void == []
    shelf.promote(second)
    (verdict,) = shelf.show(third).verdicts
    assert verdict.void == ["version 2 is live now, and it was given beside another"]
    shelf.life.archive(NAME, second, GRACE, "")
    (verdict,) = shelf.show(third).verdicts
    assert verdict.void == ["it was given beside a version that is live no more"]
    shelf.policy = POLICY.replace("0.7", "0.6")
    assert "the policy has changed since" in shelf.show(third).verdicts[0].void
    identities.note(shelf.engine, _row(shelf, third), "sha256:other")
    assert "it was given of other bytes" in shelf.show(third).verdicts[0].void


def test_tags_that_say_something_else_than_the_bytes_are_told_of(shelf: ReportShelf) -> None:
    version = shelf.version()
    shelf.plant(
        shelf.digest(version),
        lineage(evaluation(scores(0.9))).model_copy(update={"data_set": "sha256:true", "ancestors": ["3"]}),
    )
    for tag, value in (("parent_version", "none"), ("dataset_fingerprint", "sha256:claimed")):
        shelf.client.set_model_version_tag(NAME, version, tag, value)
    shown = shelf.show(version)
    assert shown.fingerprint == "sha256:true"
    told = "\n".join(shown.notices)
    assert "its tag dataset_fingerprint says sha256:claimed, its files sha256:true: tags prove nothing" in told
    assert "its tag parent_version says none, its files that it started from version 3" in told
    shelf.client.set_model_version_tag(NAME, version, "parent_version", "3")
    shelf.client.set_model_version_tag(NAME, version, "dataset_fingerprint", "sha256:true")
    assert shelf.show(version).notices == []


def test_approvals_are_those_of_the_same_bytes(shelf: ReportShelf) -> None:
    version = shelf.version()
    shelf.life.approve(NAME, version, "Production", GRACE, "looked at the worst twenty")
    told = line(printed(shelf.show(version)), "approvals")
    assert "grace for Production" in told and "looked at the worst twenty" in told
    identities.note(shelf.engine, _row(shelf, version), "sha256:other")
    assert shelf.show(version).approvals == []


def test_a_known_digest_needs_no_files(shelf: ReportShelf, monkeypatch: pytest.MonkeyPatch) -> None:
    version = shelf.version()
    assert shelf.show(version).digest == shelf.digest(version)
    shutil.rmtree(shelf.folder / "artifacts")
    shown = shelf.show(version)
    assert (shown.digest, shown.problem) == (shelf.digest(version), "")
    assert shown.evaluation is not None and shown.evaluation.source == "records"


def test_files_that_cannot_be_read_are_told_beside_all_that_is_known(shelf: ReportShelf) -> None:
    version = shelf.version()
    shutil.rmtree(shelf.folder / "artifacts")
    shown = shelf.show(version)
    assert "cannot be read" in shown.problem
    assert shown.evaluation is not None and shown.evaluation.source == "run"
    assert shown.evaluation.overall["dice"].low == pytest.approx(0.88)
    assert "cannot be read" in printed(shown) and "by ada" in printed(shown)


def test_files_are_compared_with_what_was_noted_and_the_note_stays(shelf: ReportShelf) -> None:
    version = shelf.version()
    identities.note(shelf.engine, _row(shelf, version), "sha256:earlier")
    shown = shelf.show(version, files=True)
    assert any("whose digest was sha256:earlier" in notice for notice in shown.notices)
    assert identities.digest_of(shelf.engine, _row(shelf, version)) == "sha256:earlier"


def test_a_changed_file_is_told_by_name(shelf: ReportShelf) -> None:
    version = shelf.version()
    shelf.show(version)
    (changed,) = (shelf.folder / "artifacts").rglob("model.onnx")
    changed.write_bytes(b"something else")
    assert shelf.show(version).notices == []
    shown = shelf.show(version, files=True)
    assert any(f"changed: '{VERSION_FOLDER}/model.onnx'" in notice for notice in shown.notices)
    assert shown.signature == "not looked at: the files are damaged"


def test_its_own_test_split_comes_before_those_of_later_versions(shelf: ReportShelf) -> None:
    version = shelf.version(evaluation(scores(0.9), "sha256:own"))
    shelf.show(version)
    shelf.life.check(NAME, version, "Production", GRACE)
    shelf.made += 1
    shelf.plant(shelf.digest(version), evaluation(scores(0.8), "sha256:later"))
    found = shelf.show(version).evaluation
    assert found is not None
    assert (found.fingerprint, found.overall["dice"].mean) == ("sha256:own", pytest.approx(0.9))


def test_slices_and_what_no_test_image_shows_are_told(shelf: ReportShelf) -> None:
    whole = evaluation(scores(0.9))
    part = SliceResult(images=5, metrics=whole.overall)
    measured = whole.model_copy(update={"slices": {"stain=a": part}, "unevaluated_slices": ["stain=b"]})
    told = line(printed(shelf.show(shelf.version(measured))), "slices")
    assert "stain=a: dice 0.9000 [0.8800, 0.9200], 5" in told
    assert "not evaluated: stain=b" in told


def test_the_inference_log_tells_who_answered_lately(
    shelf: ReportShelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = shelf.version()
    digest = shelf.show(version).digest
    url, now = f"sqlite:///{tmp_path / 'log.db'}", datetime.now(UTC)
    log = InferenceLog.open(url, tmp_path / "spool")
    mine = {"model_name": NAME, "model_version": version, "model_digest": digest}
    log.append([prediction(f"a{place}", **mine, event_time=now - timedelta(hours=1)) for place in range(3)])
    log.append([prediction("b", **mine, event_time=now - timedelta(hours=1), status="refused")])
    log.append([prediction("c", **mine, event_time=now - timedelta(hours=25))])
    log.append([prediction("d", **mine | {"model_digest": "sha256:forged"}, event_time=now - timedelta(hours=2))])
    log.append([prediction("e", **mine | {"model_version": "9"}, event_time=now - timedelta(hours=2))])
    assert log.close(deadline_s=60)
    monkeypatch.setenv("RESUNET_INFERENCE_LOG", url)
    shown = shelf.show(version)
    told = line(printed(shown), "deployments")
    assert "4 answers in 24 h, 1 refused" in told
    assert "others: version 9 1" in told
    assert any("bytes that are not this version's answered under its number" in one for one in shown.notices)


def test_a_log_that_cannot_be_read_hides_nothing_else(shelf: ReportShelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESUNET_INFERENCE_LOG", "sqlite:////nowhere/at/all/log.db")
    shown = shelf.show(shelf.version())
    assert any("the inference log cannot be read" in notice for notice in shown.notices)
    assert shown.evaluation is not None


def test_tags_that_contradict_the_bytes_are_told(shelf: ReportShelf) -> None:
    version = shelf.version()
    shelf.client.set_model_version_tag(NAME, version, "version_digest", "sha256:wished")
    assert any("sha256:wished" in notice and "tags prove nothing" in notice for notice in shelf.show(version).notices)


def test_decisions_on_an_earlier_version_of_the_same_number_are_told_apart(shelf: ReportShelf) -> None:
    version = shelf.version()
    past = datetime(2020, 1, 1, tzinfo=UTC)
    life = shelf.life
    Lifecycle(life.records, life.shelf, life.policy, life.settings, clock=lambda: past).archive(
        NAME, version, GRACE, ""
    )
    assert any("on an earlier one that had its number" in notice for notice in shelf.show(version).notices)


def test_a_missing_version_is_answered_with_those_there_are(shelf: ReportShelf) -> None:
    shelf.version()
    assert shelf.show("01").version == "1"
    for wrong in ("7", "latest", "-1"):
        with pytest.raises(SettingsError, match=f"has no version '{wrong}'; there is: 1"):
            shelf.show(wrong)
    with pytest.raises(SettingsError, match="there is no registered model 'other'; there is: resunet"):
        show(shelf.client, shelf.reader, "other", "1")


def test_only_the_version_and_the_live_one_are_looked_up(shelf: ReportShelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a thousand versions, reading them all would take longer than anybody waits."""
    first, second = shelf.version(0.9), shelf.version(0.91)
    shelf.promote(first)
    shelf.show(second)
    asked: list[str] = []
    one = shelf.client.get_model_version
    monkeypatch.setattr(shelf.client, "search_model_versions", lambda *_, **__: pytest.fail("all were read"))
    monkeypatch.setattr(shelf.client, "get_registered_model", lambda *_: pytest.fail("the model was read"))

    def noted(name: str, version: str) -> ModelVersion:
        asked.append(version)
        return one(name, version)

    monkeypatch.setattr(shelf.client, "get_model_version", noted)
    shown = shelf.show(second)
    assert (shown.live, set(asked)) == (first, {second})


def test_json_holds_all_that_the_screen_shows(shelf: ReportShelf) -> None:
    version = shelf.version()
    shelf.promote(version)
    text = TypeAdapter(Shown).dump_json(shelf.show(version))
    read = TypeAdapter(Shown).validate_json(text)
    assert (read.version, read.decisions[0].action, read.verdicts[0].allowed) == (version, "promote", True)
    assert TypeAdapter(Shown).dump_json(read) == text


def _row(shelf: ReportShelf, version: str) -> identities.Registration:
    found = shelf.client.get_model_version(NAME, version)
    return identities.Registration(NAME, version, int(found.creation_timestamp), str(found.source))
