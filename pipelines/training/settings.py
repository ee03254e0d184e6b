"""What a training run can be told; one typed place, checked before any work starts."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipelines.training.schedule import Schedule
from resunet.errors import SettingsError

DEFAULT_EPOCHS = 100
# How images reach the training, not which ones or in what order.
_MACHINE_SETTINGS = {"memory_budget_mb", "workers"}


class FitSettings(BaseModel):
    """Everything that decides the weights, given the data and the machine; and what it may use of the machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: Literal["resunet", "resunetpp"] = "resunet"
    width: int = Field(16, ge=1, le=256, description="channels of the first level")
    classes: int = Field(1, ge=1, le=32, description="output channels; 1 is binary")
    epochs: int = Field(
        0, ge=0, description="each image is seen once an epoch, as one crop; 0: what the other limits say, else 100"
    )
    max_minutes: float = Field(
        0, ge=0, allow_inf_nan=False, description="plan the run for this long; 0: by epochs alone"
    )
    max_steps: int = Field(0, ge=0, description="stop after this many steps; 0: no such limit")
    schedule: str = Field("", description="knots of an earlier run, to repeat it exactly")
    crop: int = Field(160, ge=16, le=2048, description="side of a training crop, pixels")
    batch_size: int = Field(8, ge=1, le=1024)
    seed: int = Field(0, ge=0, lt=2**63)
    learning_rate: float = Field(4e-3, gt=0, allow_inf_nan=False, description="peak of the schedule")
    weight_decay: float = Field(0.01, ge=0, allow_inf_nan=False)
    clip_norm: float = Field(
        1.0, gt=0, description="largest norm of the gradient that AdamW is given, not of the kernels'"
    )
    ema_decay: float = Field(0.995, ge=0, lt=1, description="of the averaged weights, which are what is kept")
    patience: int = Field(0, ge=0, description="evaluations without a better Dice before stopping; 0: never")
    keep: Literal["best", "last"] = Field("best", description="which evaluation's weights a run ends with")
    evaluations: int = Field(12, ge=1, description="how often validation runs in a whole run, at most")
    evaluation_side: int = Field(512, ge=16, description="validation during training sees the centre up to this")
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    memory_budget_mb: int = Field(4096, ge=0, description="decoded images of all splits up to this stay in memory")
    workers: int = Field(2, ge=0, description="processes that read ahead when they do not")

    @classmethod
    def checked(cls, **values: object) -> "FitSettings":
        """Build from raw values.

        Raises:
            SettingsError: names the first setting that makes no sense.
        """
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"])
            raise SettingsError(f"{name}: {first['msg']} (got {first['input']!r})") from error
        if settings.crop % 8:
            raise SettingsError(f"crop: must be a multiple of 8, the network's stride (got {settings.crop})")
        if settings.schedule:
            Schedule.parse(settings.schedule)
        return settings

    @property
    def timed(self) -> bool:
        """Whether the run plans itself by the clock."""
        return bool(self.max_minutes) and not self.schedule

    def step_limit(self, steps_per_epoch: int) -> int | None:
        """Steps that a run takes at most; None if time alone ends it."""
        limits = [self.epochs * steps_per_epoch] if self.epochs else []
        limits += [self.max_steps] if self.max_steps else []
        if not limits and not self.timed:
            return DEFAULT_EPOCHS * steps_per_epoch
        return min(limits, default=None)

    @property
    def length(self) -> str:
        """How long a run with these settings is, in words."""
        told = [f"{self.epochs} epochs"] if self.epochs else []
        told += [f"{self.max_steps} steps"] if self.max_steps else []
        if self.schedule:
            last = Schedule.parse(self.schedule).total
            return f"the {min(last, self.max_steps or last)} steps of a schedule"
        told += [f"{self.max_minutes:g} minutes"] if self.max_minutes else []
        if not told:
            return f"{DEFAULT_EPOCHS} epochs"
        return " or ".join(told) + (", whichever is first" if len(told) > 1 else "")

    def deciding(self) -> dict[str, object]:
        """Those settings that decide the weights, which a resumed run has to share with the one it goes on with."""
        unlimited = not (self.epochs or self.max_steps or self.max_minutes or self.schedule)
        epochs = DEFAULT_EPOCHS if unlimited else self.epochs
        return {**self.model_dump(exclude=_MACHINE_SETTINGS), "epochs": epochs}
