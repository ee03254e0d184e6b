"""The kinds of evidence, and what measures each: one place to look for what `pipelines evidence` can do."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from pipelines.evidence import agreement, behaviour, data, speed
from pipelines.evidence.contract import contract
from pipelines.evidence.dependencies import dependencies
from pipelines.evidence.overlap import overlap
from pipelines.evidence.subject import Subject, Version
from pipelines.progress import progress_bar
from pipelines.version.evaluate import evaluate, file_digests, known_slices
from registry.evidence import Document, Evaluation
from registry.evidence.documents import SCORES
from registry.settings import RegistrySettings
from resunet.errors import VersionError
from serving.errors import TooLargeError

Found = tuple[Version, Document | Evaluation]
Measure = Callable[[Subject], Iterator[Found]]
Advance = Callable[[int], None]


def _scores(subject: Subject) -> Iterator[Found]:
    """The candidate's test images through both versions; of the live one, those that it did not learn from."""
    candidate, champion = subject.candidate, subject.champion
    yield candidate, _evaluation(subject, candidate, list(candidate.test["path"]))
    if champion is None:
        return
    _refuse_other_classes(candidate, champion)
    learnt = data.learnt_by(champion, subject)
    unseen = [path for path in candidate.test["path"] if path not in learnt]
    if not unseen:
        raise _not_comparable(champion, candidate, f"it learnt from all of its {len(learnt)} test images")
    try:
        yield champion, _evaluation(subject, champion, unseen)
    except TooLargeError as error:
        raise _not_comparable(champion, candidate, f"of a test image it says: {error}") from error


def _evaluation(subject: Subject, version: Version, paths: list[str]) -> Evaluation:
    manifest = subject.candidate.manifest
    live = ", which is live" if version is subject.champion else ""
    with progress_bar(subject.console, f"Dice of {version.name}{live}", len(paths)) as advance:
        return evaluate(
            version.predictor,
            subject.images.only(paths),
            fingerprint=subject.fingerprint,
            digests=file_digests(manifest),
            known_slices=known_slices(manifest),
            advance=advance,
        )


def _refuse_other_classes(candidate: Version, champion: Version) -> None:
    """Several classes are told apart by index, so names and order must be the same; one class may have any name."""
    ours, theirs = candidate.spec.class_names, champion.spec.class_names
    if ours != theirs and not len(ours) == len(theirs) == 1:
        raise _not_comparable(champion, candidate, f"it knows {', '.join(theirs)}, this one {', '.join(ours)}")


def _not_comparable(champion: Version, candidate: Version, why: str) -> VersionError:
    return VersionError(
        f"{champion.name}, which is live, cannot be compared with {candidate.name}: {why}. Archive it first "
        "(`python -m registry archive`), or register this one under another name"
    )


def _signature(subject: Subject) -> Iterator[Found]:
    with progress_bar(subject.console, "What it takes and refuses", 1) as advance:
        yield subject.candidate, contract(subject.candidate, RegistrySettings.load().trust)
        advance(1)


def _overlap(subject: Subject) -> Iterator[Found]:
    """Nothing where nothing is live."""
    if subject.champion is not None:
        yield subject.candidate, overlap(subject, subject.champion)


def _at_once(measure: Callable[[Subject], Document]) -> Measure:
    return lambda subject: iter([(subject.candidate, measure(subject))])


def _over_images(title: str, measure: Callable[[Subject, Advance], Document]) -> Measure:
    def run(subject: Subject) -> Iterator[Found]:
        with progress_bar(subject.console, title, len(subject.samples)) as advance:
            yield subject.candidate, measure(subject, advance)

    return run


def _performance(subject: Subject) -> Iterator[Found]:
    with progress_bar(subject.console, "Latency and memory", speed.ROUNDS) as advance:
        yield subject.candidate, speed.performance(subject, advance)


# In this order: what needs no image first, and last what runs the code that a version brings along.
KINDS: Final[Mapping[str, Measure]] = MappingProxyType(
    {
        "dependencies": _at_once(lambda subject: dependencies(subject.candidate)),
        "data": _at_once(data.data),
        "lineage": _at_once(data.lineage),
        "overlap": _overlap,
        SCORES: _scores,
        "robustness": _over_images("Changed images", behaviour.robustness),
        "calibration": _over_images("Calibration near boundaries", behaviour.calibration),
        "parity": _over_images("Beside the trained network", agreement.parity),
        "performance": _performance,
        "signature": _signature,
    }
)
# Those for which the live version is measured too.
COMPARING: Final = frozenset({SCORES, "overlap", "performance"})
