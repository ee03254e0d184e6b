"""Two versions side by side: scores with intervals, slices, data, settings, requirements, size, speed.

with compare(client, reader, "resunet", "6", "7") as (comparison, first_files, second_files):
    comparison.paired.metrics["dice"].difference
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from mlflow import MlflowClient

from records.trust import Trust
from registry.evidence import Evaluation, Metric
from registry.reports.differences import Differs, Speed, SplitChange, find_speed, settings_differing, splits_changed
from registry.reports.files import VersionFiles, fetched
from registry.reports.paired import METRICS, Paired, Row, SliceRow, pair
from registry.reports.reader import Reader
from registry.reports.show import Shown, evaluations, find_version, gather
from resunet.errors import SettingsError


@dataclass(frozen=True)
class Sizes:
    """Bytes; 0 where the files could not be looked at."""

    first: int
    second: int
    first_serving: int
    second_serving: int


@dataclass(frozen=True)
class Comparison:
    """All that differs between two versions of a model.

    Attributes:
        paired: on the images that both were tested on; None where one was never evaluated.
        metrics: of each version's own test images where nothing is paired.
        splits: empty where a version keeps no list of its images.
        parameters: of the two runs.
        requirements: of the two environments.
        notices: what could not be compared, and why.
    """

    model: str
    first: Shown
    second: Shown
    paired: Paired | None
    metrics: Mapping[Metric, Row]
    slices: Mapping[str, SliceRow]
    splits: Sequence[SplitChange]
    parameters: Sequence[Differs]
    requirements: Sequence[Differs]
    sizes: Sizes
    speed: Speed | None
    notices: Sequence[str]


@contextmanager
def compare(
    client: MlflowClient, reader: Reader, name: str, first: str, second: str, trust: Trust | None = None
) -> Iterator[tuple[Comparison, VersionFiles, VersionFiles]]:
    """Compare two versions; their files are there while the block runs.

    Args:
        first, second: version numbers; differences are second minus first.
        trust: who should have signed both; None asks for no signature.

    Raises:
        SettingsError: there is no such model or version, or the two are one.
        RecordsError: the records cannot be read.
    """
    found = [find_version(client, name, version) for version in (first, second)]
    if found[0][0].version == found[1][0].version:
        raise SettingsError(f"version {found[0][0].version} cannot be compared with itself; name two versions")
    old, new = (gather(client, reader, name, row, aliases) for row, aliases in found)
    with (
        fetched(client, name, old.version, trust) as old_files,
        fetched(client, name, new.version, trust) as new_files,
    ):
        yield _comparison(reader, old, new, old_files, new_files), old_files, new_files


def _comparison(reader: Reader, old: Shown, new: Shown, old_files: VersionFiles, new_files: VersionFiles) -> Comparison:
    old, new = _completed(old, old_files), _completed(new, new_files)
    measured = [reader.measured(shown.digest) if shown.digest else [] for shown in (old, new)]
    paired = pair(
        _with_own(old_files.evaluation, evaluations(measured[0])),
        _with_own(new_files.evaluation, evaluations(measured[1])),
    )
    readable = old_files.root is not None and new_files.root is not None
    return Comparison(
        model=old.model,
        first=old,
        second=new,
        paired=paired,
        metrics=paired.metrics if paired else _unpaired(old, new),
        slices=paired.slices if paired else {},
        splits=splits_changed(old_files.images, new_files.images),
        parameters=settings_differing(old.run.params, new.run.params) if old.run and new.run else [],
        requirements=settings_differing(old_files.requirements, new_files.requirements) if readable else [],
        sizes=Sizes(old_files.size, new_files.size, old_files.serving_size, new_files.serving_size),
        speed=find_speed(measured[0], measured[1], old.digest, new.digest),
        notices=_notices(old, new, old_files, new_files, paired),
    )


def _completed(shown: Shown, files: VersionFiles) -> Shown:
    """With what its files say of how it runs."""
    own = files.evaluation
    return shown if own is None else replace(shown, precision=own.precision, engine=own.engine)


def _with_own(own: Evaluation | None, others: Sequence[Evaluation]) -> list[Evaluation]:
    return [*([own] if own else []), *others]


def _unpaired(old: Shown, new: Shown) -> dict[Metric, Row]:
    first = old.evaluation.overall if old.evaluation else {}
    second = new.evaluation.overall if new.evaluation else {}
    return {
        metric: Row(first.get(metric), second.get(metric), None, 0)
        for metric in METRICS
        if metric in first or metric in second
    }


def _notices(
    old: Shown, new: Shown, old_files: VersionFiles, new_files: VersionFiles, paired: Paired | None
) -> list[str]:
    found = []
    for shown, files in ((old, old_files), (new, new_files)):
        found += [f"version {shown.version}: {notice}" for notice in shown.notices]
        if files.problem:
            found.append(f"the files of version {shown.version} are left out: {files.problem}")
        elif shown.digest and files.digest != shown.digest:
            found.append(f"version {shown.version}: its files are not those in the records, {shown.digest}")
        elif not files.images:
            found.append(f"version {shown.version} keeps no list of its images: the data cannot be compared")
    if paired is None:
        lost = [shown.version for shown in (old, new) if shown.evaluation is None]
        told = f"version {' and '.join(lost)} was never evaluated" if lost else "scores of single images are not known"
        found.append(f"nothing is paired: {told}")
    elif not paired.images:
        found.append("nothing is paired: they were tested on no image in common")
    elif not paired.enough:
        found.append(
            f"only {len(paired.images)} of the {paired.first_images} test images of version {old.version} are test "
            f"images of version {new.version} too: too few for a gate"
        )
    return found
