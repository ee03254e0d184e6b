"""Settings of promotion, read from `RESUNET_*` environment variables."""

from pathlib import Path

from pydantic import Field, SecretStr

from records.trust import TrustSettings


class RegistrySettings(TrustSettings):
    """Where the rules are, and whom to believe: with any of `TrustSettings` set an unsigned version goes nowhere."""

    home: Path = Field(default=Path(".resunet"), description="holds the lock that serialises changes of stage")
    policy: Path | None = Field(
        default=None, description="which gates guard which stage (YAML); unset: the policy that comes with the platform"
    )
    data: Path | None = Field(
        default=None, description="data set that evidence is measured on; unset: where the version's run had it"
    )
    notify: SecretStr = Field(
        default=SecretStr(""), description="Apprise addresses, comma-separated, that are told of each decision"
    )
    lock_seconds: float = Field(default=120.0, gt=0, description="wait for another change of stage to end")
