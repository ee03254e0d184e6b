"""What a training run can be told; one typed place, checked before any work starts."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipelines.schedule import Schedule
from resunet.errors import SettingsError


class TrainingSettings(BaseSettings):
    """What the environment says of training; each field is read from `RESUNET_<FIELD>`."""

    model_config = SettingsConfigDict(
        env_prefix="RESUNET_", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    signing_key: Path | None = Field(None, description="private key (PEM) that new versions are signed with")

    @classmethod
    def load(cls) -> "TrainingSettings":
        """Read the environment."""
        return cls()


class FitSettings(BaseModel):
    """Everything that decides the weights, given the data and the machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    architecture: Literal["resunet", "resunetpp"] = "resunet"
    width: int = Field(16, ge=1, le=256, description="channels of the first level")
    classes: int = Field(1, ge=1, le=32, description="output channels; 1 is binary")
    epochs: int = Field(100, ge=1, description="each image is seen once an epoch, as one crop")
    max_minutes: float = Field(0, ge=0, description="plan the run for this long; 0: by epochs alone")
    max_steps: int = Field(0, ge=0, description="stop after this many steps; 0: no such limit")
    schedule: str = Field("", description="knots of an earlier run, to repeat it exactly")
    crop: int = Field(160, ge=16, le=2048, description="side of a training crop, pixels")
    batch_size: int = Field(8, ge=1, le=1024)
    seed: int = Field(0, ge=0)
    learning_rate: float = Field(4e-3, gt=0, description="peak of the schedule")
    weight_decay: float = Field(0.01, ge=0)
    clip_norm: float = Field(1.0, gt=0, description="largest gradient norm")
    ema_decay: float = Field(0.995, ge=0, lt=1, description="of the averaged weights, which are what is kept")
    patience: int = Field(0, ge=0, description="evaluations without a better Dice before stopping; 0: never")
    evaluations: int = Field(12, ge=1, description="how often validation runs in a whole run")
    evaluation_side: int = Field(512, ge=16, description="validation during training sees the centre up to this")
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    memory_budget_mb: int = Field(4096, ge=0, description="decoded images up to this stay in memory")
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
