"""Conditions on what is now: one mark, of this moment, for each thing that is looked at.

for seen in observe_now(sources, policy, now):
    seen.subject, seen.marks[0]
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Final

from sqlalchemy import Engine, func, select

from monitoring.alerts.looking import worst_command
from monitoring.alerts.policy import Policy
from monitoring.alerts.sources import Job, MeasuredDice, Observation, Sources, Subject
from monitoring.alerts.state import Mark
from monitoring.window import Window, span
from records.engines import explained
from records.schema import ANSWERING_ROUTES, predictions
from records.watch.disk import nearest
from resunet.errors import SettingsError

_Observe = Callable[[Sources, Policy, datetime], Iterator[Observation]]


def observe_now(sources: Sources, policy: Policy, now: datetime) -> list[Observation]:
    """What a policy's condition sees at a moment, where `sources.can_tell` it.

    Raises:
        RecordsError: the database does not answer.
        SettingsError: what it looks at cannot be read here.
    """
    return list(_OBSERVERS[policy.when.name](sources, policy, now))


def _outage(sources: Sources, policy: Policy, now: datetime) -> Iterator[Observation]:
    assert policy.when.no_predictions is not None
    last, during = _last_answer(sources.engine, policy.model_name, now), policy.when.no_predictions.during
    subject = Subject(policy.model_name, "", f"routes {', '.join(ANSWERING_ROUTES)}")
    if last is None:
        yield Observation(subject, (Mark(now, None, "no prediction was ever logged"),))
        return
    good = now - last < during
    said = f"the last prediction in the log is of {last:%Y-%m-%d %H:%M} UTC"
    said = said if good else f"no predictions for {span(during)} or longer: {said}"
    details = (
        "either nobody sends images, or the gateway does not answer, or what it answers does not reach the log "
        "(RESUNET_INFERENCE_LOG)",
    )
    yield Observation(subject, (Mark(now, good, said, () if good else details, last),))


def _refused(sources: Sources, policy: Policy, now: datetime) -> Iterator[Observation]:
    settings = policy.when.refused_share
    assert settings is not None
    window = Window.ending(now, settings.over)
    for version, (refused, total) in _counts(sources.engine, policy.model_name, window).items():
        said = f"{refused} of {total} images were refused ({refused / total:.1%}) in {span(settings.over)}"
        good = refused <= settings.above * total if total >= settings.at_least else None
        details = (f"window: {window}; more than {settings.above:.0%} is told",)
        yield Observation(Subject(policy.model_name, version, f"refused in {span(settings.over)}"), (
            Mark(now, good, said, details),
        ))  # fmt: skip


def _measured(sources: Sources, policy: Policy, now: datetime) -> Iterator[Observation]:
    settings = policy.when.measured_dice
    assert settings is not None
    assert sources.measured is not None
    window = Window.ending(now, settings.over)
    for found in sources.measured(sources.engine, policy.model_name, window):
        dice = found.dice
        # An interval that reaches up to `below` is no evidence; one without a number compares as neither.
        good = None if found.images < settings.at_least or dice.high != dice.high else dice.high >= settings.below
        said = (
            f"measured Dice {dice.mean:.3f} ({dice.low:.3f} to {dice.high:.3f}) on {found.images} labelled images"
            f"{'' if good is not False else f': all of the interval is below {settings.below:g}'}"
        )
        named = f"labels of {span(settings.over)}{_part(found)}"
        details: tuple[str, ...] = (f"predictions: {window}; labels of random audits",)
        if good is False:
            details += (f"the worst images: {worst_command(policy.model_name, found.version, window)}",)
        yield Observation(Subject(policy.model_name, found.version, named), (Mark(now, good, said, details),))


def _part(found: MeasuredDice) -> str:
    parts = (("slice", found.slice), ("route", found.route))
    return "".join(f", {name} {value}" for name, value in parts if value is not None)


def _jobs(sources: Sources, policy: Policy, now: datetime) -> Iterator[Observation]:
    settings = policy.when.job
    assert settings is not None and sources.jobs is not None
    for job in sources.jobs(sources.engine):
        if settings.name is None or fnmatchcase(job.name, settings.name):
            yield Observation(Subject("", "", f"job {job.name}"), (_job_mark(job, settings.late_by, now),))


def _job_mark(job: Job, patience: timedelta, now: datetime) -> Mark:
    if job.overdue(now, patience):
        late = job.due is not None and job.due < now
        begun = "" if job.last_started is None else f" on {job.last_started:%Y-%m-%d %H:%M} UTC"
        said = f"was due on {job.due:%Y-%m-%d %H:%M} UTC and has not run" if late else f"began{begun} and never ended"
        hint = "is `python -m monitoring schedule` running? Where it is not, it cannot tell of itself"
        return Mark(now, False, f"job {job.name} {said}", (hint,), job.due if late else job.last_started)
    if job.failed:
        return Mark(now, False, f"job {job.name} has failed: {job.last_outcome}", (), job.last_finished)
    # Until it has ended once there is nothing to say of it.
    return Mark(now, None if job.last_outcome is None else True, f"job {job.name} is well")


def _disk(sources: Sources, policy: Policy, now: datetime) -> Iterator[Observation]:
    settings = policy.when.disk_free
    assert settings is not None
    path = settings.path or nearest(sources.home)
    try:
        free = sources.share_free(path)
    except OSError as error:
        raise SettingsError(
            f"policy {policy.name}: the disk of {path} cannot be looked at: {error.strerror}; name another `path`"
        ) from error
    said = f"{free:.1%} of the disk that holds {path} is free"
    hint = "how much of masks and images is kept: RESUNET_MASKS_MAX_MB, RESUNET_IMAGES_MAX_MB"
    hint = hint if free < settings.below else ""
    mark = Mark(now, free >= settings.below, said, (hint,) if hint else ())
    yield Observation(Subject("", "", f"disk of {path}"), (mark,))


_OBSERVERS: Final[dict[str, _Observe]] = {
    "no_predictions": _outage,
    "refused_share": _refused,
    "measured_dice": _measured,
    "job": _jobs,
    "disk_free": _disk,
}


def _last_answer(engine: Engine, model: str, now: datetime) -> datetime | None:
    table = predictions.c
    query = select(table.event_time).where(table.model_name == model, table.event_time <= now, table.status == "ok")
    query = query.where(table.route.in_(ANSWERING_ROUTES)).order_by(table.event_time.desc()).limit(1)
    with explained(engine), engine.connect() as connection:
        last: datetime | None = connection.scalar(query)
    return last


def _counts(engine: Engine, model: str, window: Window) -> dict[str, tuple[int, int]]:
    """Of each version, how many images it refused and how many there were."""
    table = predictions.c
    query = select(table.model_version, table.status, func.count()).where(
        table.model_name == model,
        table.event_time >= window.start,
        table.event_time < window.end,
        table.route.in_(ANSWERING_ROUTES),
    )
    counts = dict[str, tuple[int, int]]()
    with explained(engine), engine.connect() as connection:
        for version, status, count in connection.execute(query.group_by(table.model_version, table.status)):
            refused, total = counts.get(version, (0, 0))
            counts[version] = (refused + (count if status != "ok" else 0), total + count)
    return counts
