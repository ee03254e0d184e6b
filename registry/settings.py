"""Settings of promotion, read from `RESUNET_*` environment variables."""

from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from resunet.errors import SettingsError


class RegistrySettings(BaseSettings):
    """What a version must show before it goes live, and whom to believe."""

    model_config = SettingsConfigDict(env_prefix="RESUNET_", env_ignore_empty=True, extra="ignore", frozen=True)

    home: Path = Field(default=Path(".resunet"), description="holds the lock that serialises changes of stage")
    dice_floor: float = Field(default=0.7, ge=0, le=1, description="least mean test Dice for Production")
    champion_margin: float = Field(
        default=0.01, ge=0, le=1, description="how much mean Dice a version may lose against the live one"
    )
    trusted_key: Path | None = Field(
        default=None,
        description="public key (PEM); when set, an unsigned version goes nowhere",
    )
    lock_seconds: float = Field(default=120.0, gt=0, description="wait for another change of stage to end")

    @classmethod
    def load(cls) -> "RegistrySettings":
        """Read the environment.

        Raises:
            SettingsError: a variable holds a value that makes no sense; it is named.
        """
        try:
            return cls()
        except ValidationError as error:
            first = error.errors()[0]
            name = "RESUNET_" + "_".join(str(part) for part in first["loc"]).upper()
            raise SettingsError(f"{name}: {first['msg']}; change or unset it") from error
