"""`registry compare`: what is paired, what differs, and what is said where something is missing."""

import io
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter
from reported_versions import NAME, ReportShelf
from rich.console import Console
from small_versions import evaluation, scores, with_digests

from records.evidence import Measured
from registry.evidence import Evaluation, Performance, SliceResult
from registry.noninferiority import noninferiority
from registry.reports.compare import Comparison, compare
from registry.reports.compare_table import say_comparison, sentences
from registry.reports.differences import Differs, find_speed, settings_differing, splits_changed
from registry.reports.examples import most_different
from registry.reports.files import ImageRow, fetched, read_requirements
from registry.reports.paired import ImagePair, compare_evaluations, pair
from resunet.errors import SettingsError, StoreError
from resunet.metrics import bootstrap_interval


def noisy(dice: float, seed: int, count: int = 12, fingerprint: str = "sha256:a") -> Evaluation:
    rng = np.random.default_rng(seed)
    values = {f"images/{place:02d}.png": float(dice + rng.normal(0, 0.03)) for place in range(count)}
    return with_digests(evaluation(values, fingerprint))


def sliced(measured: Evaluation, members: Mapping[str, str]) -> Evaluation:
    """With the slice of each image that `members` names, by path."""
    images = [
        s.model_copy(update={"slices": [members[s.path]] if s.path in members else []}) for s in measured.per_image
    ]
    names = sorted(set(members.values()))
    parts = {
        name: SliceResult(images=sum(name in s.slices for s in images), metrics=measured.overall) for name in names
    }
    return measured.model_copy(update={"per_image": images, "slices": parts})


def compared(shelf: ReportShelf, first: str, second: str) -> Comparison:
    with compare(shelf.client, shelf.reader, NAME, first, second) as (found, _, _):
        return found


def printed(found: Comparison) -> str:
    stream = io.StringIO()
    say_comparison(Console(file=stream, width=200), found)
    return stream.getvalue()


def test_the_difference_is_of_the_second_against_the_first_on_the_same_images() -> None:
    first, second = noisy(0.85, 1), noisy(0.9, 2)
    found = compare_evaluations(first, second)
    differences = [b.dice - a.dice for a, b in zip(first.per_image, second.per_image, strict=True)]
    row = found.metrics["dice"]
    assert row.first == first.overall["dice"] and row.second == second.overall["dice"]
    assert row.difference is not None
    assert (row.difference.mean, row.difference.low, row.difference.high) == bootstrap_interval(differences)
    assert (row.images, found.whole, found.enough) == (12, True, True)
    assert row.difference.low > 0
    turned = compare_evaluations(second, first).metrics["dice"].difference
    assert turned is not None and turned.mean == pytest.approx(-row.difference.mean)


def test_the_bound_is_the_one_that_the_gate_sees() -> None:
    first, second = noisy(0.9, 1), noisy(0.9, 2)
    found = compare_evaluations(first, second).bound
    shown = noninferiority([b.dice - a.dice for a, b in zip(first.per_image, second.per_image, strict=True)], 0.01)
    assert found is not None
    assert (found.mean, found.low, found.high) == (shown.mean, shown.low, shown.high)


def test_whole_groups_are_drawn() -> None:
    first, second = noisy(0.85, 1), noisy(0.9, 2)
    grouped = [s.model_copy(update={"group": f"g{place // 6}"}) for place, s in enumerate(second.per_image)]
    alone = compare_evaluations(first, second).metrics["dice"].difference
    together = compare_evaluations(first, second.model_copy(update={"per_image": grouped})).metrics["dice"].difference
    assert alone is not None and together is not None
    assert (together.low, together.high) != (alone.low, alone.high)


def test_images_without_a_value_of_a_metric_are_left_out_of_its_difference() -> None:
    first, second = noisy(0.9, 1), noisy(0.9, 2)
    some = [s.model_copy(update={"auc": 0.9 if place < 4 else None}) for place, s in enumerate(second.per_image)]
    known = [s.model_copy(update={"auc": 0.8}) for s in first.per_image]
    overall = {**first.overall, "auc": first.overall["dice"]}
    found = compare_evaluations(
        first.model_copy(update={"per_image": known, "overall": overall}), second.model_copy(update={"per_image": some})
    ).metrics["auc"]
    assert (found.images, found.second) == (4, None)
    assert found.difference is not None and found.difference.mean == pytest.approx(0.1)


def test_slices_are_compared_on_their_own_images_and_one_image_says_nothing() -> None:
    members = {f"images/{place:02d}.png": "stain=a" if place else "stain=b" for place in range(12)}
    first, second = sliced(noisy(0.85, 1), members), sliced(noisy(0.9, 2), members)
    found = compare_evaluations(first, second).slices
    assert {name: (row.images, row.first_images, row.second_images) for name, row in found.items()} == {
        "stain=a": (11, 11, 11),
        "stain=b": (1, 1, 1),
    }
    alone = found["stain=b"].difference
    assert alone is not None
    assert (alone.low, alone.high) == (-1, 1)
    assert alone.mean == pytest.approx(second.per_image[0].dice - first.per_image[0].dice)


def test_of_several_evaluations_those_on_one_split_are_compared() -> None:
    own, later = noisy(0.8, 1, fingerprint="sha256:a"), noisy(0.85, 2, 14, "sha256:b")
    second = noisy(0.9, 3, 14, "sha256:b")
    found = pair([own, later], [second])
    assert found is not None and found.whole
    assert (found.first_images, len(found.images)) == (14, 14)
    grown = pair([own], [second])
    assert grown is not None
    assert (grown.whole, grown.enough, len(grown.images)) == (False, True, 12)
    assert pair([], [second]) is None


def test_images_that_are_not_the_same_are_not_paired() -> None:
    other = noisy(0.9, 2, fingerprint="sha256:b")
    relabelled = [s.model_copy(update={"mask_sha256": "other"}) for s in other.per_image]
    found = compare_evaluations(noisy(0.85, 1), other.model_copy(update={"per_image": relabelled}))
    assert (list(found.images), found.bound, found.metrics["dice"].difference) == ([], None, None)


def test_the_worst_losses_and_the_best_gains_are_shown() -> None:
    images = [ImagePair(str(place), (), 0.5, 0.5 + step) for place, step in enumerate((-0.3, -0.2, -0.1, 0, 0.1, 0.4))]
    assert [one.path for one in most_different(images, 2)] == ["0", "5"]
    assert [one.path for one in most_different(images, 4)] == ["0", "1", "5", "4"]
    assert [one.path for one in most_different(images, 9)] == ["0", "1", "2", "5", "4"]
    assert [one.path for one in most_different(images[3:], 2)] == ["5", "4"]
    assert most_different(images, 0) == [] == most_different([images[3]], 3)


def test_settings_differ_by_name() -> None:
    assert settings_differing({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "4", "d": "5"}) == [
        Differs("b", "2", "4"),
        Differs("c", "3", ""),
        Differs("d", "", "5"),
    ]


def test_images_of_each_split_are_told_apart_by_their_bytes() -> None:
    first = {
        "a.png": ImageRow("1", "m1", "train"),
        "b.png": ImageRow("2", "m2", "train"),
        "c.png": ImageRow("3", "m3", "test"),
    }
    second = {
        "renamed.png": ImageRow("1", "m1", "train"),
        "b.png": ImageRow("2", "another mask", "train"),
        "new.png": ImageRow("4", "m4", "test"),
    }
    train, validation, test = splits_changed(first, second)
    assert (train.first, train.second, train.added, train.removed, train.relabelled) == (2, 2, [], [], ["b.png"])
    assert (validation.first, validation.second) == (0, 0)
    assert (test.added, test.removed, test.relabelled) == (["new.png"], ["c.png"], [])
    assert splits_changed({}, second) == []


def speed(candidate: float, champion: float | None, digest: str, beside: str, day: int) -> Measured:
    document = Performance(
        machine="a machine",
        engine="onnxruntime",
        side_px=256,
        candidate_p95_ms=[candidate] * 3,
        champion_p95_ms=[champion] * 3 if champion else [],
        candidate_mb=candidate * 10,
        champion_mb=champion * 10 if champion else None,
    )
    when = datetime(2026, 1, day, tzinfo=UTC)
    return Measured(
        version_digest=digest, kind="performance", content=document.model_dump_json(), measured_by="ada",
        measured_at=when, champion_digest=beside,
    )  # fmt: skip


def test_speed_is_that_of_one_run_where_there_was_one() -> None:
    alone_1, alone_2 = speed(10, None, "1", "", 1), speed(30, None, "2", "", 2)
    beside = speed(12, 11, "2", "1", 3)
    found = find_speed([alone_1], [alone_2, beside], "1", "2")
    assert found is not None
    assert (found.together, found.first_ms, found.second_ms, found.first_mb, found.second_mb) == (
        True,
        11,
        12,
        110,
        120,
    )
    turned = find_speed([alone_2, beside], [alone_1], "2", "1")
    assert turned is not None and (turned.together, turned.first_ms, turned.second_ms) == (True, 12, 11)
    apart = find_speed([alone_1], [alone_2], "1", "2")
    assert apart is not None and (apart.together, apart.first_ms, apart.second_ms) == (False, 10, 30)
    assert find_speed([], [], "1", "2") is None


def manifest(*rows: tuple[str, str]) -> pd.DataFrame:
    return pd.DataFrame(
        [{"path": path, "sha256": f"image {path}", "mask_sha256": path, "split": split} for path, split in rows]
    )


def test_two_versions_are_put_side_by_side(shelf: ReportShelf) -> None:
    first = shelf.version(noisy(0.85, 1), {"width": "8", "seed": "0"}, images=manifest(("a", "train"), ("b", "test")))
    second = shelf.version(
        noisy(0.9, 2),
        {"width": "16", "seed": "0"},
        images=manifest(("a", "train"), ("c", "train"), ("b", "test")),
        requirements="numpy==2.1\nmlflow==3.0\nnew-one==1 ; python_version > '3'\n",
    )
    shelf.plant(shelf.digest(second), _performance(), beside=shelf.digest(first))
    found = compared(shelf, first, second)
    assert list(found.parameters) == [Differs("width", "8", "16")]
    assert list(found.requirements) == [
        Differs("new-one", "", "==1 ; python_version > '3'"),
        Differs("numpy", "==2.0", "==2.1"),
    ]
    assert (found.splits[0].split, found.splits[0].first, found.splits[0].second) == ("train", 1, 2)
    assert found.sizes.first > 0 and found.sizes.first_serving == len("not a network: 1")
    assert found.speed is not None and found.speed.together
    text = printed(found)
    for told in ("0.8", "width", "new-one", "train", "p95 latency", "1.20 ×", "0123456"):
        assert told in text, told
    assert sentences(found)[1].startswith("Version 2 is shown to be better: by more than 0.0")
    assert found.notices == []


def _performance() -> Performance:
    return Performance(
        machine="a machine", engine="onnxruntime", side_px=256, candidate_p95_ms=[12, 12, 12],
        champion_p95_ms=[10, 10, 10], candidate_mb=120, champion_mb=100,
    )  # fmt: skip


def test_what_is_shown_is_said_in_words(shelf: ReportShelf) -> None:
    good, worse, alike = (shelf.version(found) for found in (noisy(0.9, 2), noisy(0.8, 3), noisy(0.9, 4)))
    assert "Version 2 is shown to be worse: by more than" in sentences(compared(shelf, good, worse))[1]
    assert "Version 3 is shown to lose no more than" in sentences(compared(shelf, good, alike))[1]
    assert "No difference in requirements and parameters" in sentences(compared(shelf, good, alike))[2]


def test_files_that_cannot_be_had_leave_out_what_is_only_in_them(shelf: ReportShelf) -> None:
    first, second = shelf.version(noisy(0.85, 1)), shelf.version(noisy(0.9, 2))
    for version in (first, second):
        shelf.show(version)
    shutil.rmtree(shelf.folder / "artifacts")
    found = compared(shelf, first, second)
    assert found.paired is not None and found.paired.whole
    assert (list(found.splits), list(found.requirements), found.sizes.first) == ([], [], 0)
    assert sum("are left out" in notice for notice in found.notices) == 2
    assert "No difference in requirements" not in " ".join(sentences(found))


def test_versions_that_nobody_measured_are_compared_by_their_runs(shelf: ReportShelf) -> None:
    first, second = (shelf.version(noisy(0.85 + seed / 100, seed), measured=False) for seed in (1, 2))
    shutil.rmtree(shelf.folder / "artifacts")
    found = compared(shelf, first, second)
    assert found.paired is None
    assert found.metrics["dice"].first is not None and found.metrics["dice"].difference is None
    assert any("scores of single images are not known" in notice for notice in found.notices)


def test_damaged_files_are_not_believed(shelf: ReportShelf) -> None:
    first, second = shelf.version(noisy(0.85, 1)), shelf.version(noisy(0.9, 2))
    changed = sorted((shelf.folder / "artifacts").rglob("requirements.txt"))[0]
    changed.write_text("numpy==9\n")
    found = compared(shelf, first, second)
    assert any("changed: 'requirements.txt'" in notice for notice in found.notices)
    assert list(found.requirements) == []


def test_files_that_changed_since_they_were_noted_are_told(shelf: ReportShelf) -> None:
    first, second = shelf.version(noisy(0.85, 1)), shelf.version(noisy(0.9, 2))
    with fetched(shelf.client, NAME, first, None) as files:
        assert files.digest == shelf.digest(first)
        assert files.requirements == {"python": "==3.11.7", "numpy": "==2.0", "mlflow": "==3.0"}
    from records import identities

    row = shelf.client.get_model_version(NAME, first)
    shelf.show(first)
    registration = identities.Registration(NAME, first, int(row.creation_timestamp), str(row.source))
    identities.note(shelf.engine, registration, "sha256:earlier")
    assert any("are not those in the records" in notice for notice in compared(shelf, first, second).notices)


def test_what_goes_wrong_while_files_are_looked_at_is_not_taken_for_their_absence(shelf: ReportShelf) -> None:
    error = StoreError("the records are away")
    with pytest.raises(StoreError) as raised, fetched(shelf.client, NAME, shelf.version(), None):
        raise error
    assert raised.value is error


def test_requirements_are_read_as_pip_writes_them(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(
        "# by hand\n-r other.txt\n\nNumPy==2.0 # pin\nray[data]>=2 ; python_version > '3'\nours @ file:x\nbare\n"
    )
    assert read_requirements(tmp_path) == {
        "numpy": "==2.0",
        "ray": "[data]>=2 ; python_version > '3'",
        "ours": "@ file:x",
        "bare": "any",
    }
    (tmp_path / "python_env.yaml").write_text("python: [")
    assert read_requirements(tmp_path) == {}


def test_a_version_is_not_compared_with_itself(shelf: ReportShelf) -> None:
    version = shelf.version(noisy(0.9, 1))
    with pytest.raises(SettingsError, match="cannot be compared with itself"):
        compared(shelf, version, f"0{version}")


def test_json_holds_every_number(shelf: ReportShelf) -> None:
    first, second = shelf.version(noisy(0.85, 1)), shelf.version(noisy(0.9, 2))
    text = TypeAdapter(Comparison).dump_json(compared(shelf, first, second))
    again = TypeAdapter(Comparison).validate_json(text)
    assert again.paired is not None and len(again.paired.images) == 12
    assert TypeAdapter(Comparison).dump_json(again) == text


def test_too_few_images_in_common_are_said_to_be_too_few(shelf: ReportShelf) -> None:
    first = shelf.version(noisy(0.85, 1))
    grown = noisy(0.9, 2, 20, "sha256:b")
    kept = [s for place, s in enumerate(grown.per_image) if place not in (0, 1)]
    few = with_digests(evaluation({s.path: s.dice for s in kept}, "sha256:b"))
    found = compared(shelf, first, shelf.version(few))
    assert any("only 10 of the 12 test images of version 1" in notice for notice in found.notices)


def test_scores_that_nobody_can_pair_are_said(shelf: ReportShelf) -> None:
    first = shelf.version(evaluation(scores(0.9), "sha256:a"))
    second = shelf.version(evaluation({f"other/{place}": 0.9 for place in range(5)}, "sha256:b"))
    found = compared(shelf, first, second)
    assert any("tested on no image in common" in notice for notice in found.notices)
