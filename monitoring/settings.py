"""Settings of monitoring, from `RESUNET_MONITORING_*` environment variables."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from records.environment import EnvironmentSettings


class MonitoringSettings(EnvironmentSettings):
    """What stays the same from one report to the next."""

    model_config = SettingsConfigDict(env_prefix="RESUNET_MONITORING_")

    experiment: str = Field(default="resunet-monitoring", description="MLflow experiment that holds the reports")
    sample_rows: int = Field(
        default=10_000,
        ge=100,
        description="most rows a side that a report looks at; a larger window is sampled",
    )
    workspace: Path | None = Field(
        default=None, description="folder of the Evidently workspace [default: RESUNET_HOME/evidently]"
    )
    seed: int = Field(default=0, ge=0, description="of that sample")
