"""Settings of monitoring, from `RESUNET_MONITORING_*` environment variables."""

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from resunet.errors import SettingsError


class MonitoringSettings(BaseSettings):
    """What stays the same from one report to the next."""

    model_config = SettingsConfigDict(
        env_prefix="RESUNET_MONITORING_", env_ignore_empty=True, extra="ignore", frozen=True
    )

    experiment: str = Field(default="resunet-monitoring", description="MLflow experiment that holds the reports")
    sample_rows: int = Field(
        default=10_000,
        ge=100,
        description="most rows a side that a report looks at; a larger window is sampled",
    )
    seed: int = Field(default=0, ge=0, description="of that sample")

    @classmethod
    def load(cls) -> "MonitoringSettings":
        """Read the environment.

        Raises:
            SettingsError: a variable does not parse; the message names it.
        """
        try:
            return cls()
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            name = "RESUNET_MONITORING_" + "_".join(str(part) for part in first["loc"]).upper()
            raise SettingsError(f"{name} is not usable: {first['msg']}") from None
