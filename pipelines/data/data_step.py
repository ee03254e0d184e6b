"""From a data folder to what training needs: checked, split, with its manifest."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console

from pipelines.data.dataset import Dataset, Sample
from pipelines.data.manifest import fingerprint
from pipelines.data.prepare import PreparedReport, prepare
from pipelines.data.slice_filter import parse_slices
from pipelines.data.synthetic import generate
from records.settings import RecordsSettings
from resunet.errors import DataError


@dataclass(frozen=True)
class PreparedData:
    """A data set that passed `prepare`, filtered and split; `where`, `slices` and `groups` as they were typed."""

    root: Path
    dataset: Dataset
    manifest: pd.DataFrame
    report: PreparedReport
    where: str
    slices: str = ""
    groups: str = ""

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.manifest)

    @property
    def classes(self) -> int:
        """Output channels: 1 for a binary data set."""
        return len(self.dataset.class_names)

    def split(self, name: str) -> list[Sample]:
        """The samples of `train`, `validation` or `test`, in the manifest's order."""
        rows = self.manifest.loc[self.manifest["split"] == name, "path"]
        samples = {sample.file: sample for sample in self.dataset.samples}
        return [samples[path] for path in rows]


def data_folder(data: str) -> Path:
    """The data set to use: the one named, else synthetic nuclei, made on first use.

    Raises:
        DataError: the named folder does not exist.
    """
    if data:
        root = Path(data).expanduser()
        if not root.is_dir():
            raise DataError(f"no data folder at {root}; it needs images/ and masks/ in it")
        return root.absolute()
    root = RecordsSettings.load().home.absolute() / "data" / "synthetic"
    if not (root / "images").is_dir():
        generate(root)
    return root


def folder_name(root: Path) -> str:
    """A name for what is kept about a data folder elsewhere, `nuclei-1a2b3c4d`: one for each resolved path."""
    resolved = root.resolve()
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", resolved.name)[:60].strip("-.")
    return f"{readable or 'data'}-{hashlib.sha256(str(resolved).encode()).hexdigest()[:8]}"


def report_file(root: Path) -> Path:
    """Where the report on a data folder goes when no place is named: the folder itself may be read-only."""
    return RecordsSettings.load().home.absolute() / "reports" / f"prepare-{folder_name(root)}.json"


def prepare_data(
    data: str, where: str = "", groups: str = "", console: Console | None = None, slices: str = ""
) -> PreparedData:
    """Read, check, filter and split a data set; the report is kept, also of one that is refused.

    Args:
        data: folder, or empty for synthetic nuclei.
        where: slice filter such as `modality=fluorescence`.
        groups: another place for `groups.csv` than the data folder.
        console: where progress and the table of problems go.
        slices: columns of `metadata.csv` to slice by, comma-separated; empty takes its text columns of few values.

    Raises:
        SettingsError: there is no such `groups`, or `slices` is not understood.
        DataError: `prepare` refuses the data, or nothing matches `where`.
    """
    columns = parse_slices(slices)
    root = data_folder(data)
    groups_file = Path(groups) if groups else None
    report = prepare(root, groups_file=groups_file, slices=columns, where=where or None, console=console)
    if console is not None:
        console.print(report.table())
    kept = _keep(report, console)
    report.raise_if_refused(kept)
    return PreparedData(root, report.dataset, report.manifest, report, where, slices, groups)


def _keep(report: PreparedReport, console: Console | None) -> Path | None:
    """Write the report to its usual place; a home that cannot be written to is no reason to stop."""
    path = report_file(report.root)
    try:
        report.write(path)
    except DataError as error:
        if console is not None:
            console.print(f"{error}", style="yellow", markup=False, soft_wrap=True)
        return None
    if console is not None:
        console.print(f"report: {path}", style="dim", markup=False, soft_wrap=True)
    return path
