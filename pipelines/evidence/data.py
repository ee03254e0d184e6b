"""What the version learnt from, and the state of its data set."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from pipelines.data.leaks import Leaks, find_leaks, trained_rows
from pipelines.data.manifest import fingerprint
from pipelines.evidence.subject import Subject, Version
from registry.evidence import DataCheck, Lineage


def lineage(subject: Subject) -> Lineage:
    """Look among the test images for what the version or one of its ancestors learnt from."""
    version = subject.candidate
    leaks = _leaks(version, subject)
    ancestors = [] if version.ancestors is None else sorted(version.ancestors["version"].astype(str).unique(), key=int)
    return Lineage(
        fingerprint=subject.fingerprint,
        data_set=fingerprint(version.manifest),
        test_images=len(version.test),
        trained_images=int(_trained(version)["pixels"].nunique()),
        ancestors=ancestors,
        same=list(leaks.same),
        grouped=list(leaks.grouped),
        changed=list(leaks.changed),
        doubtful=list(leaks.doubtful),
    )


def learnt_by(version: Version, subject: Subject) -> set[str]:
    """The candidate's test images that a version, or one of its ancestors, learnt from."""
    leaks = _leaks(version, subject)
    return {*leaks.same, *leaks.grouped, *(ours for ours, _ in leaks.changed)}


def _trained(version: Version) -> pd.DataFrame:
    return trained_rows([version.manifest, *([] if version.ancestors is None else [version.ancestors])])


def _leaks(version: Version, subject: Subject) -> Leaks:
    test, trained = subject.candidate.test, _trained(version)
    # A test image that was changed must not speak for the one that it was.
    changed_since = set(test["path"]) & set(subject.differing)
    leaks = find_leaks(test, trained, None if changed_since else subject.data)
    near = {
        pair for pair in _near_trained(subject, set(trained["pixels"])) if pair[0] not in (*leaks.same, *leaks.grouped)
    }
    return replace(leaks, changed=tuple(sorted({*leaks.changed, *near})))


def _near_trained(subject: Subject, trained: set[str]) -> Iterator[tuple[str, str]]:
    """Near-duplicates in the data set of which one is a test image and the other, by its pixels, was trained on."""
    test = set(subject.candidate.test["path"]) - set(subject.differing)
    pixels = dict(zip(subject.data.manifest["path"], subject.data.manifest["pixels"], strict=True))
    for pair in subject.data.report.pairs:
        for ours, theirs in (pair, pair[::-1]):
            if ours in test and pixels[theirs] in trained:
                yield ours, theirs


def data(subject: Subject) -> DataCheck:
    """What `prepare` says of the data set now, and whether it still is what the manifest lists."""
    report, manifest = subject.data.report, subject.candidate.manifest
    split = dict(zip(manifest["path"], manifest["split"], strict=True))
    near = [
        (ours, theirs) if split[ours] == "test" else (theirs, ours)
        for ours, theirs in report.pairs
        if ours in split and theirs in split and (split[ours] == "test") != (split[theirs] == "test")
    ]
    return DataCheck(
        name=subject.data.root.name,
        images=len(manifest),
        complete=not subject.differing,
        differing=subject.differing,
        refusals=_told(subject, refused=True),
        remarks=_told(subject, refused=False),
        near_test=near,
    )


def _told(subject: Subject, refused: bool) -> list[str]:
    problems = subject.data.report.problems
    return [
        f"{problem.check}: {', '.join(problem.files[:1]) or 'the whole data set'}"
        f"{f' and {len(problem.files) - 1} more' if len(problem.files) > 1 else ''}"
        for problem in problems
        if (problem.severity == "refuse") == refused
    ]
