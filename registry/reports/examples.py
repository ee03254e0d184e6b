"""Images on which two versions differ most, drawn by `python -m pipelines compare-examples`.

This folder only reads: what decodes images and runs versions is a process of its own.
"""

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from registry.data_place import find_data
from registry.reports.compare import Comparison
from registry.reports.files import VersionFiles
from registry.reports.paired import ImagePair
from resunet.errors import SettingsError

SHEET_FILE: Final = "examples.json"
# Of each example, in the order of reading: the image, the truth's outline, what each version says.
PICTURES: Final = ("image", "truth", "first", "second")
_PNG: Final = b"\x89PNG\r\n\x1a\n"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Example(_Part):
    """One image: Dice of both versions as they were just run, and the names of its four pictures in the folder."""

    path: str
    width: int
    height: int
    first: float
    second: float
    brighter: float
    pictures: dict[str, str]


class Skipped(_Part):
    """An image that could not be shown, and why."""

    path: str
    why: str


class Sheet(_Part):
    """`examples.json`, which `compare-examples` writes beside its pictures."""

    examples: list[Example]
    skipped: list[Skipped]


@dataclass(frozen=True)
class Drawn:
    """What there is to show.

    Attributes:
        pictures: PNG files by name.
        notices: why there is not more.
    """

    examples: Sequence[Example] = ()
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    notices: Sequence[str] = ()


def most_different(images: Sequence[ImagePair], number: int) -> list[ImagePair]:
    """The images on which Dice differs most: as many losses as gains, and none without a difference."""
    losses = sorted(
        (one for one in images if one.second < one.first), key=lambda one: (one.second - one.first, one.path)
    )
    gains = sorted(
        (one for one in images if one.second > one.first), key=lambda one: (one.first - one.second, one.path)
    )
    lost = min(len(losses), max(number // 2, number - len(gains)))
    return [*losses[:lost], *gains[: number - lost]]


def draw_examples(
    comparison: Comparison, first: VersionFiles, second: VersionFiles, number: int, data: Path | None
) -> Drawn:
    """Have the images drawn on which the two differ most.

    Args:
        first, second: the two versions' files, on this machine.
        number: of images.
        data: the data set; None takes where the second version's run had it.
    """
    if number <= 0:
        return Drawn()
    chosen = most_different(comparison.paired.images, number) if comparison.paired else []
    if not chosen:
        return Drawn(notices=["no example images: there is no image of which it is known that they differ"])
    if first.root is None or second.root is None:
        return Drawn(notices=["no example images: the files of both versions are needed"])
    try:
        folder = _data_folder(comparison, data)
    except SettingsError as error:
        return Drawn(notices=[f"no example images: {error}"])
    with tempfile.TemporaryDirectory(prefix="resunet-examples-") as out:
        command = [sys.executable, "-m", "pipelines", "compare-examples", str(first.root), str(second.root)]
        command += ["--data", str(folder), "--out", out]
        for one in chosen:
            command += ["--image", one.path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            return Drawn(notices=[f"no example images: {last.removeprefix('error: ')}"])
        return _read(Path(out))


def _data_folder(comparison: Comparison, data: Path | None) -> Path:
    """Where the data set lies on this machine.

    Raises:
        SettingsError: nobody noted it, or it is not here.
    """
    runs = [one.run for one in (comparison.second, comparison.first) if one.run is not None]
    tags = next((run.tags for run in runs if "data_set" in run.tags), {})
    place = Path(find_data(tags, data, f"version {comparison.second.version} of {comparison.model}").data).expanduser()
    if not place.is_dir():
        raise SettingsError(f"the data set {place} is not on this machine; --data names it")
    return place


def _read(folder: Path) -> Drawn:
    try:
        sheet = Sheet.model_validate_json((folder / SHEET_FILE).read_bytes())
        names = [name for example in sheet.examples for name in example.pictures.values()]
        pictures = {name: (folder / Path(name).name).read_bytes() for name in names}
    except (OSError, ValidationError) as error:
        return Drawn(notices=[f"no example images: what was drawn cannot be read ({type(error).__name__})"])
    if not all(content.startswith(_PNG) for content in pictures.values()):
        return Drawn(notices=["no example images: what was drawn are no PNG files"])
    return Drawn(sheet.examples, pictures, [f"{one.path} is not shown: {one.why}" for one in sheet.skipped])
