"""One pick: the kept images of a window that are most worth labelling, written to a folder and noted in the log.

picked = pick(PickQuestion(version, window, n=50), engine, stores, reference, Path("to-label"), now)
picked.chosen, picked.notes
"""

import shutil
import uuid
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from monitoring.live import LIVE_ROUTES
from monitoring.performance.candidates import MOST, Candidates, candidates_in
from monitoring.performance.choice import Chosen, choose
from monitoring.performance.distance import ReferenceSpace, from_bytes
from monitoring.performance.estimated import OUTSIDE, image_intervals
from monitoring.performance.export import Exported, check_folder, export
from monitoring.performance.version_files import HeldOutScores
from monitoring.tracking import WatchedVersion
from monitoring.window import Window
from records.picks import AuditDraw, Pick, PickedAnswer, add_picks, picked_answers
from records.stores import Stores
from resunet.errors import DataError, SettingsError

_FACTS: Final = ("route", "slice", "confidence", "boundary_uncertainty")
_NEVER: Final = float("nan")


class NothingToPickError(DataError):
    """No image of the window is kept."""


@dataclass(frozen=True)
class PickQuestion:
    """What is asked; `random_share` of the `n` images are drawn uniformly at random."""

    version: WatchedVersion
    window: Window
    n: int = 50
    random_share: float = 0.3
    routes: tuple[str, ...] = LIVE_ROUTES
    seed: int = 0


@dataclass(frozen=True)
class Picked:
    """What was chosen, under which name it is noted, and what a reader must know."""

    pick_id: str
    chosen: tuple[Chosen, ...]
    notes: tuple[str, ...]


def pick(
    question: PickQuestion,
    engine: Engine,
    stores: Stores,
    reference: ReferenceSpace | None,
    folder: Path,
    now: datetime,
    *,
    scores: HeldOutScores | None = None,
) -> Picked:
    """Choose, export and note.

    Args:
        reference: embeddings of the version's held-out images; None where it has none.
        folder: a new or an empty one.
        now: aware.
        scores: of the version's test images: they say between what the Dice of an image lies. None: it is left out.

    Raises:
        NothingToPickError: no image of the window is kept.
        SettingsError: the folder holds something, or cannot be written.
        RecordsError: the database does not answer.
    """
    check_folder(folder)
    before = picked_answers(engine, question.version.name)
    found = candidates_in(
        engine,
        question.version,
        question.window,
        stores,
        routes=question.routes,
        before=before,
        seed=question.seed,
    )
    if not found.kept:
        raise NothingToPickError(_nothing(question, found))
    points, distance = _placed(found, reference)
    chosen = choose(
        found.rows["confidence"].to_numpy(np.float64),
        found.rows["boundary_uncertainty"].to_numpy(np.float64),
        distance,
        points,
        n=question.n,
        random_share=question.random_share,
        seed=question.seed,
        fresh=found.fresh,
        radius=_NEVER if reference is None else reference.radius,
    )
    far = np.zeros(len(found.rows), np.bool_) if reference is None else distance > reference.radius
    chosen = [_told_far(one) if far[one.place] else one for one in chosen]
    stated = found.rows["confidence"].to_numpy(np.float64)
    between = None if scores is None else image_intervals(stated, scores, far=far)
    images = [_exported(one, found, distance, between, question.version) for one in chosen]
    note = Pick(uuid.uuid4().hex[:12], question.version.name, question.window.start, question.window.end, now)
    _write(images, stores, folder, question.version.name)
    try:
        add_picks(engine, note, [_noted(one, found.share) for one in images], _drawn(question, chosen, found))
    except Exception:
        # Images whose probability nobody noted could never be weighted.
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return Picked(note.pick_id, tuple(chosen), tuple(_notes(question, found, reference)))


def _placed(found: Candidates, reference: ReferenceSpace | None) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Where candidates lie in embedding space, and how far from the reference."""
    embeddings = from_bytes(found.rows["embedding"])
    if reference is None:
        return embeddings, np.full(len(embeddings), np.nan)
    return reference.scaled(embeddings), reference.distances(embeddings)


def _told_far(one: Chosen) -> Chosen:
    """With the reason why nothing is said of its Dice."""
    return replace(one, why=f"{one.why}{',' if ':' in one.why else ':'} {OUTSIDE}")


def _exported(
    one: Chosen,
    found: Candidates,
    distance: NDArray[np.float64],
    between: tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    version: WatchedVersion,
) -> Exported:
    row = found.rows.iloc[one.place]
    facts: dict[str, object] = {"model_version": version.version, "event_time": row["event_time"].isoformat()}
    for name in _FACTS:
        facts[name] = _text(row[name])
    low, high = (_NEVER, _NEVER) if between is None else (float(end[one.place]) for end in between)
    facts["dice_low"], facts["dice_high"] = _text(low), _text(high)
    facts["distance"] = _text(float(distance[one.place]))
    return Exported(one, row["answer_id"], row["request_id"], row["event_time"].to_pydatetime(), facts)


def _text(value: object) -> str:
    if isinstance(value, float):
        return "" if np.isnan(value) else f"{value:.5g}"
    return "" if value is None else str(value)


def _noted(one: Exported, share: float) -> PickedAnswer:
    chosen = one.chosen
    return PickedAnswer(one.answer_id, chosen.source, chosen.probability * share, chosen.why)


def _drawn(question: PickQuestion, chosen: list[Chosen], found: Candidates) -> AuditDraw | None:
    audits = sum(one.source == "audit" for one in chosen)
    rate = audits / len(found.rows) * found.share
    return AuditDraw(question.version.version, question.routes, rate) if audits else None


def _write(images: list[Exported], stores: Stores, folder: Path, model: str) -> None:
    try:
        export(images, stores, folder, model)
    except OSError as error:
        raise SettingsError(f"--out {folder} cannot be written: {error.strerror}. Name another folder") from error


def _nothing(question: PickQuestion, found: Candidates) -> str:
    if not found.answers:
        return (
            f"nothing to pick: the window {question.window} holds no answers of {question.version}. Ask for another "
            "--window, or check that the server logs to this database (RESUNET_INFERENCE_LOG)"
        )
    return (
        f"nothing to pick: of {found.answers:,} answers of {question.version} in the window {question.window} no image "
        "is kept here. Set RESUNET_KEEP_IMAGES where it is served to the share of answers whose image is kept (0.01 … "
        "1), and run this with the RESUNET_HOME of that server, within RESUNET_IMAGE_RETENTION_DAYS and "
        "RESUNET_MASK_RETENTION_DAYS"
    )


def _notes(question: PickQuestion, found: Candidates, reference: ReferenceSpace | None) -> list[str]:
    told = [f"{found.kept:,} of {found.answers:,} answers of the window have their image kept."]
    if found.share < 1:
        told.append(f"A random sample of {MOST:,} of them was looked at; probabilities say so.")
    if found.kept < question.n:
        told.append(f"That is fewer than the {question.n} asked for: all of them are there.")
    if reference is None:
        told.append("The version's reference has no embeddings: how far images are from it does not count.")
    again = int((~found.fresh).sum())
    if again:
        told.append(f"{again:,} that were picked or labelled before can only come again at random.")
    return told
