"""What is only in a version's files: its images, its requirements, its size.

with fetched(client, "resunet", "7", trust) as files:
    files.images["images/a.png"].split
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pandas as pd
import yaml
from mlflow import MlflowClient

from records.trust import Trust
from registry.download import download
from registry.evidence import VERSION_FOLDER, Evaluation
from registry.facts import read_facts
from resunet.errors import StoreError

MANIFEST_FILE: Final = "manifest.parquet"
REQUIREMENTS_FILE: Final = "requirements.txt"
_PYTHON_FILE: Final = "python_env.yaml"
_COLUMNS: Final = ("path", "sha256", "mask_sha256", "split")


@dataclass(frozen=True)
class ImageRow:
    """An image of the data set that a version was made from: digests of the two files, and its split."""

    sha256: str
    mask_sha256: str
    split: str


@dataclass(frozen=True)
class VersionFiles:
    """A version's files, as they were fetched.

    Attributes:
        root: the model's folder, while the block runs; None where it could not be fetched.
        problem: why it could not be, or why it is not to be believed; then all else is empty.
        size: bytes of all files; of `serving_size` the file that serves.
        requirements: what each package has to be, `python` among them.
        images: by path; empty where the version keeps no manifest.
    """

    root: Path | None = None
    problem: str = ""
    digest: str = ""
    size: int = 0
    serving_size: int = 0
    requirements: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, ImageRow] = field(default_factory=dict)
    evaluation: Evaluation | None = None


@contextmanager
def fetched(client: MlflowClient, name: str, version: str, trust: Trust | None) -> Iterator[VersionFiles]:
    """Fetch and check a version's files; that they cannot be had is a finding, not an error."""
    with ExitStack() as stack:
        try:
            found = read_files(version, stack.enter_context(download(client, name, version)), trust)
        except StoreError as error:
            found = VersionFiles(problem=str(error))
        yield found


def read_files(version: str, root: Path, trust: Trust | Path | None = None) -> VersionFiles:
    """Check a version's files and read them.

    Args:
        version: its number.
        root: the model's folder.
        trust: who should have signed it; a path is that of a public key (PEM); None asks for no signature.
    """
    facts = read_facts(version, root, trust)
    if facts.damage or facts.unsigned:
        return VersionFiles(problem=facts.damage or facts.unsigned)
    inner = root / VERSION_FOLDER
    serving = facts.evaluation.serving_file if facts.evaluation else ""
    return VersionFiles(
        root=root,
        digest=facts.digest,
        size=sum((root / path).stat().st_size for path in facts.listing),
        serving_size=(inner / serving).stat().st_size if serving and (inner / serving).is_file() else 0,
        requirements=read_requirements(root),
        images=_images(inner / MANIFEST_FILE),
        evaluation=facts.evaluation,
    )


def _images(path: Path) -> dict[str, ImageRow]:
    try:
        table = pd.read_parquet(path, columns=list(_COLUMNS)).fillna("")
    except (OSError, ValueError, KeyError):
        return {}
    return {
        str(name): ImageRow(str(image), str(mask), str(split))
        for name, image, mask, split in table.itertuples(index=False, name=None)
    }


def read_requirements(root: Path) -> dict[str, str]:
    """What each package that a model asks for has to be, by its name in lower case; `python` is one of them.

    Empty where the two files that say so make no sense.
    """
    try:
        return _requirements(root)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}


def _requirements(root: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    python, pip = root / _PYTHON_FILE, root / REQUIREMENTS_FILE
    if python.is_file():
        content = yaml.safe_load(python.read_text(encoding="utf-8"))
        if isinstance(content, dict) and "python" in content:
            found["python"] = f"=={content['python']}"
    for line in pip.read_text(encoding="utf-8").splitlines() if pip.is_file() else ():
        text = line.split("#")[0].strip()
        name = next((text[:end] for end, letter in enumerate(f"{text} ") if letter in " =<>!~[;@"), text)
        if name and not name.startswith("-"):
            found[name.lower()] = text[len(name) :].strip() or "any"
    return found
