"""Settings of promotion, read from `RESUNET_*` environment variables."""

from pathlib import Path

from pydantic import Field

from records.notify import NotifySettings
from records.trust import TrustSettings


class RegistrySettings(TrustSettings, NotifySettings):
    """Where the rules are, and whom to believe: with any of `TrustSettings` set an unsigned version goes nowhere."""

    home: Path = Field(default=Path(".resunet"), description="holds the lock that serialises changes of stage")
    policy: Path | None = Field(
        default=None, description="which gates guard which stage (YAML); unset: the policy that comes with the platform"
    )
    data: Path | None = Field(
        default=None, description="data set that evidence is measured on; unset: where the version's run had it"
    )
    lock_seconds: float = Field(default=120.0, gt=0, description="wait for another change of stage to end")
