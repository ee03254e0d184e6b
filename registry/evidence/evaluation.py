"""What is measured about a version, as `evaluation.json`, written before the version is registered.

evaluation = Evaluation(fingerprint=…, images=…, overall={"dice": Interval(mean=…, low=…, high=…)}, …)
evaluation.write(Path("artifacts/version"))
Evaluation.read(Path("artifacts/version")).overall["dice"].mean
"""

from pathlib import Path
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from resunet.errors import VersionError

FORMAT_VERSION: Final = 1
EVALUATION_FILE = "evaluation.json"
VERSION_FOLDER = "artifacts/version"

Metric = Literal["dice", "iou", "precision", "recall", "boundary_f1", "auc"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Interval(_Part):
    """A mean over images with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


class SliceResult(_Part):
    """The metrics of the test images that share one value of one slice column."""

    images: int = Field(ge=1)
    metrics: dict[Metric, Interval]


class ImageScore(_Part):
    """One test image. `auc` is absent where the truth holds one class only, which leaves it undefined."""

    path: str = Field(description="relative to the data set's folder, with forward slashes")
    sha256: str = Field("", description="of the image file; with the mask's, what makes it the same test image")
    mask_sha256: str = ""
    group: str | None = Field(None, description="what it has in common with others: patient, slide, scene")
    slices: list[str] = Field(default_factory=list, description="`column=value` of each slice that it belongs to")
    dice: float = Field(ge=0, le=1)
    iou: float = Field(ge=0, le=1)
    precision: float = Field(ge=0, le=1)
    recall: float = Field(ge=0, le=1)
    boundary_f1: float = Field(ge=0, le=1)
    auc: float | None = Field(None, ge=0, le=1)
    confidence: float = Field(ge=0, le=1, description="calibrated soft Dice, as it is served")


class Evaluation(_Part):
    """`evaluation.json`: the test split, scored through the file that will serve."""

    format_version: Literal[1] = FORMAT_VERSION
    split: Literal["test"] = "test"
    fingerprint: str = Field(min_length=1, description="of the manifest's test rows")
    images: int = Field(ge=1)
    overall: dict[Metric, Interval]
    slices: dict[str, SliceResult] = Field(default_factory=dict, description="keys are `column=value`")
    per_image: list[ImageScore]
    unevaluated_slices: list[str] = Field(default_factory=list, description="`column=value` without a test image")
    serving_file: str
    precision: str
    engine: str

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        if "dice" not in self.overall:
            raise ValueError("overall holds no dice")
        if self.images != len(self.per_image):
            raise ValueError(f"it counts {self.images} images but scores {len(self.per_image)}")
        if len({score.path for score in self.per_image}) != self.images:
            raise ValueError("an image is scored twice")
        mean = sum(score.dice for score in self.per_image) / self.images
        # 1e-4: room for a writer that rounds to four decimals, none for another test split.
        if abs(mean - self.overall["dice"].mean) > 1e-4:
            raise ValueError(f"overall dice is {self.overall['dice'].mean:.4f}, its images give {mean:.4f}")
        return self

    @property
    def slice_members(self) -> dict[str, list[str]]:
        """The paths of the images of each slice; empty where the images' slices were not kept."""
        members: dict[str, list[str]] = {}
        for score in self.per_image:
            for name in score.slices:
                members.setdefault(name, []).append(score.path)
        return members

    @classmethod
    def read(cls, root: Path) -> "Evaluation":
        """Read `root/evaluation.json`.

        Raises:
            VersionError: it is missing, of a format that this release does not know, or contradicts itself.
        """
        try:
            return cls.parse((root / EVALUATION_FILE).read_bytes())
        except FileNotFoundError as error:
            raise VersionError(
                f"{EVALUATION_FILE} is missing: the version was never evaluated; train it anew here"
            ) from error

    @classmethod
    def parse(cls, content: bytes | str) -> "Evaluation":
        """Read what `write` wrote.

        Raises:
            VersionError: it is of a format that this release does not know, or contradicts itself.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise VersionError(
                f"{EVALUATION_FILE} is not understood at {where or 'its top'}: {first['msg']}. "
                f"This release reads format {FORMAT_VERSION}; upgrade the platform or train the version anew"
            ) from error

    def write(self, root: Path) -> None:
        """Write `root/evaluation.json`; `root` exists."""
        (root / EVALUATION_FILE).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")
