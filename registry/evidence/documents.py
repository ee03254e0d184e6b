"""The documents that `python -m pipelines evidence` measures and the gates read, one class a kind.

A document says what was measured, never whether that is good: that is a gate's word. Lists over images are in the
order of `images` of the same document. Pixels, milliseconds and megabytes (10⁶ bytes) throughout.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from registry.evidence.evaluation import Evaluation
from resunet.errors import RecordsError


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Document(_Part):
    """One kind of evidence.

    Attributes:
        beside: it compares with the version that is live, and says nothing beside another one.
        alone: it says something where nothing is live.
    """

    kind: ClassVar[str]
    beside: ClassVar[bool] = False
    alone: ClassVar[bool] = True
    format_version: Literal[1] = 1

    @classmethod
    def parse(cls, content: str | bytes) -> Self:
        """Read what `model_dump_json` wrote.

        Raises:
            RecordsError: it is of a format that this release does not know.
        """
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "its top"
            raise RecordsError(
                f"the stored evidence `{cls.kind}` is not understood at {where}: {first['msg']}. "
                "Another release wrote it: measure again with `python -m pipelines evidence`"
            ) from error


class Lineage(Document):
    """Whether a test image was trained on, by the version itself or by one that it started from.

    Lists hold paths of test images; pairs are a test image and the trained one that it resembles.
    """

    kind: ClassVar[str] = "lineage"
    fingerprint: str = Field(description="of the manifest's test rows")
    data_set: str = Field("", description="fingerprint of the whole manifest")
    test_images: int = Field(ge=1)
    trained_images: int = Field(ge=0, description="of train and validation, the ancestors' included")
    ancestors: list[str] = Field(default_factory=list, description="versions whose weights it started from")
    same: list[str] = Field(default_factory=list)
    grouped: list[str] = Field(default_factory=list)
    changed: list[tuple[str, str]] = Field(default_factory=list)
    doubtful: list[tuple[str, str]] = Field(default_factory=list, description="alike by a hash alone")


class Overlap(Document):
    """What the live version was tested on and what it takes, held beside the candidate.

    Without it a candidate could choose the images on which the two are compared. An image is the same where its bytes
    and its mask's are; paths are the candidate's.
    """

    kind: ClassVar[str] = "overlap"
    beside: ClassVar[bool] = True
    alone: ClassVar[bool] = False
    fingerprint: str = Field(description="of the candidate's test rows")
    own_images: int = Field(ge=1, description="test images of the live version's own manifest")
    shared: list[str] = Field(description="those of them that the candidate is tested on too")
    slices: dict[str, list[str]] = Field(
        default_factory=dict, description="of each slice in the live version's manifest, its shared images"
    )
    slice_images: dict[str, int] = Field(
        default_factory=dict, description="of each slice, how many test images the live version has"
    )
    inputs: str = Field("", description="the live version's signature, as its JSON")
    outputs: str = ""
    params: str = ""

    @model_validator(mode="after")
    def _of_one_version(self) -> Self:
        if self.slices.keys() != self.slice_images.keys():
            raise ValueError("the slices are not those that are counted")
        return self


class Condition(_Part):
    """The test images after one change, scored again."""

    title: str = Field(description="what was done, with its strength")
    dice: list[float]


class Robustness(Document):
    """Per-image Dice with and without bounded changes of the image."""

    kind: ClassVar[str] = "robustness"
    fingerprint: str
    images: list[str] = Field(min_length=1)
    groups: list[str | None]
    clean: list[float]
    conditions: dict[str, Condition] = Field(min_length=1)

    @model_validator(mode="after")
    def _of_one_length(self) -> Self:
        lengths = {len(self.groups), len(self.clean), *(len(c.dice) for c in self.conditions.values())}
        if lengths != {len(self.images)}:
            raise ValueError("it does not hold one value an image")
        return self


class Bin(_Part):
    """Pixels whose predicted probability fell into one interval."""

    confidence: float = Field(description="mean predicted probability")
    frequency: float = Field(description="share that is foreground in truth")
    pixels: int = Field(ge=0)


class Band(_Part):
    """Expected calibration error over one set of pixels, with its 95 % interval over images or groups."""

    error: float
    low: float
    high: float
    pixels: int
    bins: list[Bin]


class BandCalibration(Document):
    """Calibration of the pixels near the true boundary, and of all pixels beside it, which flatter every model.

    The error is the expected calibration error in equal-width bins (Guo et al., On Calibration of Modern Neural
    Networks, ICML 2017). For several classes it is that of the probability of the predicted class.
    """

    kind: ClassVar[str] = "calibration"
    fingerprint: str
    band_px: int = Field(ge=1, description="largest distance from the true boundary")
    images: int = Field(ge=1)
    band: Band
    everywhere: Band


class EngineParity(_Part):
    """One engine on one file of the version, against the trained network in torch fp32."""

    engine: str
    precision: str
    serves: bool = Field(description="this is the file and precision that serve")
    pixel_agreement: float = Field(ge=0, le=1, description="share of pixels with the network's class")
    engine_agreement: float = Field(ge=0, le=1, description="the same against ONNX Runtime on this file")
    lowest_mask_dice: float = Field(ge=0, le=1, description="of the image whose masks agree least")


class Parity(Document):
    """How far what is served is from what was trained."""

    kind: ClassVar[str] = "parity"
    images: int = Field(ge=1)
    pixels: int = Field(ge=1)
    engines: list[EngineParity] = Field(min_length=1)


class Performance(Document):
    """Latency and memory beside the live version's, in one interleaved run on one machine.

    Each list holds one p95 a round, in the order of the rounds: the rounds are the pairs. Without a live version the
    lists of the champion are empty.
    """

    kind: ClassVar[str] = "performance"
    beside: ClassVar[bool] = True
    machine: str = Field(description="processor and number of cores that were used")
    engine: str
    side_px: int = Field(ge=1, description="of the square image")
    candidate_p95_ms: list[float] = Field(min_length=3)
    champion_p95_ms: list[float] = Field(default_factory=list)
    candidate_mb: float = Field(gt=0, description="resident memory of a process that serves it, at its peak")
    champion_mb: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _in_pairs(self) -> Self:
        if self.champion_p95_ms and len(self.champion_p95_ms) != len(self.candidate_p95_ms):
            raise ValueError("the versions were not measured in the same rounds")
        if bool(self.champion_p95_ms) != (self.champion_mb is not None):
            raise ValueError("it holds half of what was measured of the live version")
        if min(*self.candidate_p95_ms, *self.champion_p95_ms) <= 0:
            raise ValueError("a time is not above 0")
        return self


class InputContract(Document):
    """What the version takes and gives, and how it meets what it should refuse (the gate `signature`).

    To ask it, the code that it brings along has to run: where that is nobody's whom this installation believes, it is
    not asked, and `not_run` says why.
    """

    kind: ClassVar[str] = "signature"
    inputs: str = Field(description="MLflow's signature, as its JSON")
    outputs: str
    params: str
    example: str = Field("", description="why the version's own example was refused; empty: it was answered")
    refused: dict[str, str] = Field(description="for each bad input what it was told; empty: it was answered")
    not_run: str = Field("", description="why its code was not run; empty: it was")


class Vulnerability(_Part):
    """A known vulnerability of a pinned package."""

    package: str
    version: str
    id: str
    fixed_in: list[str] = Field(default_factory=list)


class Dependencies(Document):
    """The environment that the version asks for, and whether anything in it is pickled."""

    kind: ClassVar[str] = "dependencies"
    pinned: list[str]
    unpinned: list[str] = Field(default_factory=list)
    pickles: list[str] = Field(default_factory=list, description="paths of pickled files in the version")
    vulnerabilities: list[Vulnerability] | None = Field(None, description="None: nobody looked")
    not_audited: str = Field("", description="why nobody looked")


class DataCheck(Document):
    """What `prepare` says of the data set that the version was made from."""

    kind: ClassVar[str] = "data"
    name: str
    images: int = Field(ge=1)
    complete: bool = Field(description="every file of the version's manifest is there, byte for byte")
    differing: list[str] = Field(default_factory=list, description="files that are not")
    refusals: list[str] = Field(default_factory=list, description="what makes a metric a lie")
    remarks: list[str] = Field(default_factory=list)
    near_test: list[tuple[str, str]] = Field(
        default_factory=list, description="near-duplicates of which one is a test image and the other is not"
    )


SCORES: Final = "scores"

DOCUMENTS: Final[Mapping[str, type[Document]]] = MappingProxyType(
    {
        one.kind: one
        for one in (
            Lineage, Overlap, Robustness, BandCalibration, Parity, Performance, InputContract, Dependencies, DataCheck,
        )
    }
)  # fmt: skip


def parse_document(kind: str, content: str) -> Document | Evaluation:
    """Read a stored document.

    Raises:
        RecordsError: there is no such kind, or another release wrote it.
    """
    if kind == SCORES:
        return Evaluation.parse(content)
    if kind not in DOCUMENTS:
        raise RecordsError(f"there is evidence of a kind {kind!r} that this release does not know: upgrade it")
    return DOCUMENTS[kind].parse(content)
