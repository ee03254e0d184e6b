"""What evidence is measured on: a version, the one that is live, and the very images that the version was tested on.

The data set may have grown since, or lie elsewhere: an image counts by the digests in the version's own manifest.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import pandas as pd
from rich.console import Console

from pipelines.data.data_step import PreparedData
from pipelines.data.dataset import Sample
from pipelines.data.labelled import LabelledImages
from pipelines.data.manifest import SLICE_PREFIX, fingerprint, read_manifest
from pipelines.data.prepare import prepare
from pipelines.data.slice_filter import parse_slices
from records.digests import verify_digests
from registry.data_place import DataPlace
from registry.evidence import VERSION_FOLDER, Evaluation
from resunet.errors import DataError, VersionError
from serving.golden import check_golden
from serving.predictor import Predictor
from serving.version import ANCESTORS_FILE, MANIFEST_FILE, VersionSpec

_SHOWN: Final = 3


@dataclass(frozen=True)
class Version:
    """A version's files, checked.

    Attributes:
        name: for people, `version 7`.
        model: the folder that holds `MLmodel`.
        digest: of its files.
    """

    name: str
    model: Path
    digest: str

    @classmethod
    def checked(cls, name: str, model: Path) -> "Version":
        """A version whose files are those in its list.

        Raises:
            VersionError: they are not.
        """
        try:
            return cls(name, model, verify_digests(model))
        except VersionError as error:
            raise VersionError(f"{name}: {error}") from error

    @property
    def root(self) -> Path:
        """The folder that holds `version.json`."""
        return self.model / VERSION_FOLDER

    @cached_property
    def manifest(self) -> pd.DataFrame:
        """Rows of its own images."""
        return read_manifest(self.root / MANIFEST_FILE)

    @cached_property
    def ancestors(self) -> pd.DataFrame | None:
        """Rows of what the versions that it started from were made of; None where there are none."""
        path = self.root / ANCESTORS_FILE
        return pd.read_parquet(path) if path.is_file() else None

    @cached_property
    def test(self) -> pd.DataFrame:
        """Rows of its test images.

        Raises:
            VersionError: it was never evaluated, or on other images: evidence is kept by the images it is of.
        """
        rows = self.manifest[self.manifest["split"] == "test"].reset_index(drop=True)
        if Evaluation.read(self.root).fingerprint != fingerprint(rows):
            raise VersionError(
                f"{self.name} was evaluated on other images than the test images of its manifest: train it anew"
            )
        return rows

    @cached_property
    def spec(self) -> VersionSpec:
        return VersionSpec.read(self.root)

    @cached_property
    def predictor(self) -> Predictor:
        """The version as it serves here, after it has reproduced its golden output."""
        predictor = Predictor.load(self.root)
        check_golden(predictor, self.root)
        return predictor


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        candidate, champion: champion is None where nothing is live.
        place: of the data set, as it was given to the training of the candidate.
        console: where progress goes.
    """

    candidate: Version
    champion: Version | None
    place: DataPlace
    console: Console

    @cached_property
    def data(self) -> PreparedData:
        """The data set as it is now, also one that `prepare` refuses: that is a finding.

        Raises:
            DataError: it is not there, or no data set at all.
            SettingsError: `groups` or `slices` of the place make no sense.
        """
        place = self.place
        root = Path(place.data).expanduser().absolute()
        if not root.is_dir():
            raise DataError(
                f"the data set of {self.candidate.name} is not at {root}: bring it back, or say with --data (at a "
                "server: with RESUNET_DATA) where it is now"
            )
        report = prepare(
            root,
            groups_file=Path(place.groups) if place.groups else None,
            slices=parse_slices(place.slices),
            where=place.where or None,
            console=self.console,
        )
        return PreparedData(root, report.dataset, report.manifest, report, place.where, place.slices, place.groups)

    @cached_property
    def differing(self) -> list[str]:
        """Images of the candidate's manifest that, with their masks, are not in the data set byte for byte."""
        columns = ["path", "sha256", "mask_sha256"]
        here = set(self.data.manifest[columns].itertuples(index=False, name=None))
        there = self.candidate.manifest[columns].itertuples(index=False, name=None)
        return [str(row[0]) for row in there if row not in here]

    @property
    def fingerprint(self) -> str:
        """Of the candidate's test rows."""
        return fingerprint(self.candidate.test)

    @cached_property
    def samples(self) -> list[Sample]:
        """The candidate's test images, with the group and the slices that its manifest gives them.

        Raises:
            DataError: one of them is not in the data set any more, or was changed.
        """
        test, differing = self.candidate.test, set(self.differing)
        lost = [path for path in test["path"] if path in differing]
        if lost:
            more = f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
            raise DataError(
                f"{len(lost)} of {len(test)} test images of {self.candidate.name} are not in {self.data.root.name} as "
                f"they were, or their masks are not: {', '.join(lost[:_SHOWN])}{more}. Bring them back, or train a "
                "version on what there is now"
            )
        files = {sample.file: sample for sample in self.data.dataset.samples}
        columns = [column for column in test.columns if column.startswith(SLICE_PREFIX)]
        samples = []
        for row in test.to_dict("records"):
            slices = {
                column.removeprefix(SLICE_PREFIX): str(row[column]) for column in columns if row[column] is not None
            }
            samples.append(replace(files[row["path"]], group=row["group"], slices=slices))
        return samples

    @property
    def images(self) -> LabelledImages:
        """Them, decoded one at a time."""
        return LabelledImages(self.samples)
