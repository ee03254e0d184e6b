"""The conditions that a policy may have: a closed set, each with its own settings. One of them is written a policy.

when: {verdict: drift}                       # or `too few rows`: the verdict on a window
when: {trend: drift}                         # the verdict on all windows up to one
when: {descriptor: brightness}               # it is among what moved
when: {estimated_dice: {below: 0.8}}         # without labels
when: {measured_dice: {below: 0.8, over: 30d}}
when: {refused_share: {above: 0.1, over: 1d}}
when: {no_predictions: {during: 2h}}
when: {job: {late_by: 1h}}
when: {disk_free: {below: 0.1}}
"""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from monitoring.window import parse_duration
from resunet.descriptors import IMAGE_DESCRIPTORS, PREDICTION_DESCRIPTORS
from resunet.errors import SettingsError

STRICT: Final = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
_BY_WINDOWS: Final = ("verdict", "trend", "descriptor", "estimated_dice")
_OF_NO_MODEL: Final = ("job", "disk_free")


def duration(given: object) -> timedelta:
    """A length of time as it is written: 30m, 24h, 7d."""
    if isinstance(given, timedelta):
        return given
    try:
        return parse_duration(str(given))
    except SettingsError:
        raise PydanticCustomError("duration", "it should be a length of time: write 30m, 24h or 7d") from None


def _known_descriptor(name: str) -> str:
    known = (*IMAGE_DESCRIPTORS, *PREDICTION_DESCRIPTORS)
    if name not in known:
        raise PydanticCustomError("descriptor", "there is no such descriptor: choose from {}".format(", ".join(known)))
    return name


Duration = Annotated[timedelta, BeforeValidator(duration)]
Share = Annotated[float, Field(gt=0, lt=1)]


class EstimatedDice(BaseModel):
    """The estimate for a window, made without labels, is below a value. A window without an estimate tells nothing."""

    model_config = STRICT

    below: Share


class MeasuredDice(BaseModel):
    """Labels show that Dice is below a value: the upper end of its interval is.

    Attributes:
        over: predictions of so long, up to now.
        at_least: labelled images; of fewer nothing is told.
    """

    model_config = STRICT

    below: Share
    over: Duration = timedelta(days=30)
    at_least: Annotated[int, Field(ge=2)] = 20


class RefusedShare(BaseModel):
    """More than a share of what clients sent was refused as no image that can be segmented.

    Attributes:
        over: what was sent in so long, up to now.
        at_least: images that were sent; of fewer nothing is told.
    """

    model_config = STRICT

    above: Share
    over: Duration = timedelta(days=1)
    at_least: Annotated[int, Field(ge=1)] = 20


class NoPredictions(BaseModel):
    """Nobody was answered for so long. Of a model that never answered anybody nothing is told."""

    model_config = STRICT

    during: Duration


class JobTrouble(BaseModel):
    """A job of the schedule has failed, or is late.

    Attributes:
        name: of a job, `*` stands for anything; None: each of them.
        late_by: so long after it was due it counts as late.
    """

    model_config = STRICT

    name: Annotated[str, Field(min_length=1)] | None = None
    late_by: Duration = timedelta(hours=1)


class DiskFree(BaseModel):
    """Less than a share of a disk is free, on the machine that looks.

    Attributes:
        path: a folder on it; None: RESUNET_HOME.
    """

    model_config = STRICT

    below: Share
    path: Annotated[Path, BeforeValidator(lambda given: Path(given) if isinstance(given, str) else given)] | None = None


class Condition(BaseModel):
    """Exactly one of these."""

    model_config = STRICT

    verdict: Literal["drift", "too few rows"] | None = None
    trend: Literal["drift"] | None = None
    descriptor: Annotated[str, AfterValidator(_known_descriptor)] | None = None
    estimated_dice: EstimatedDice | None = None
    measured_dice: MeasuredDice | None = None
    refused_share: RefusedShare | None = None
    no_predictions: NoPredictions | None = None
    job: JobTrouble | None = None
    disk_free: DiskFree | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = sorted(self.model_fields_set)
        if len(given) != 1:
            names = ", ".join(type(self).model_fields)
            found = f"{' and '.join(given)} are {len(given)}" if given else "there is none"
            raise PydanticCustomError("one_condition", f"it should hold one condition, but {found}; they are: {names}")
        if getattr(self, given[0]) is None:
            raise PydanticCustomError("empty_condition", f"{given[0]} says nothing: write what it looks for")
        return self

    @property
    def name(self) -> str:
        """The key that it is written with."""
        return next(iter(self.model_fields_set))

    @property
    def settings(self) -> Any:
        """What stands behind the key."""
        return getattr(self, self.name)

    @property
    def by_windows(self) -> bool:
        """Whether it looks at windows that were reported on, or else at what is now."""
        return self.name in _BY_WINDOWS

    @property
    def of_no_model(self) -> bool:
        """Whether it is about the platform itself."""
        return self.name in _OF_NO_MODEL
