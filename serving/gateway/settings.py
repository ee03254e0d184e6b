"""How the gateway runs, from the environment and its command line.

settings = GatewaySettings.load()
"""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from records.environment import EnvironmentSettings
from serving.access.limits import FASTEST, SLOWEST


class GatewaySettings(EnvironmentSettings):
    """Each field is read from `RESUNET_GATEWAY_<FIELD>`, in capitals; an empty variable counts as unset."""

    model_config = SettingsConfigDict(env_prefix="RESUNET_GATEWAY_")

    model: str = Field(default="models:/resunet/Production", description="the place in the registry that is followed")
    host: str = Field(default="127.0.0.1", description="address that is listened on")
    port: int = Field(default=8000, ge=0, le=65535, description="0: any that is free")
    workers: int = Field(default=1, ge=1, le=64, description="processes that answer; each has its own engine")
    poll_seconds: float = Field(default=5.0, gt=0, description="a change in the registry is followed within it")
    stop_when_archived: bool = Field(default=False, description="with nothing live, answer nothing any more")
    request_seconds: float = Field(
        default=60.0, gt=0, description="after so long it is answered 504, or 408 without its body"
    )
    threads: int = Field(default=0, ge=0, description="requests that are worked on at a time; 0: cores + 4")
    waiting: int = Field(default=64, ge=0, description="requests that wait for a thread; more are answered 503")
    batch: int = Field(default=1, ge=1, le=64, description="images of one size that are run together at most; 1: none")
    batch_wait_ms: float = Field(default=0.0, ge=0, le=1000, description="longest wait for such company")
    held_mb: int = Field(default=1500, ge=1, description="MB that the bodies of all requests hold at most")
    candidate: str = Field(default="", description="where a rollout's version stands; empty: Staging of the same model")
    rollout_policy: Path | None = Field(
        default=None, description="how versions are rolled out, a YAML file of your own"
    )
    shadow_threads: int = Field(default=1, ge=1, description="cores that the shadow computes on, where they are idle")
    keep_versions: int = Field(default=3, ge=1, description="versions that are kept on this machine")
    drain_seconds: float = Field(default=30.0, ge=0, description="at the end, longest wait for requests under way")
    tls_certificate: Path | None = Field(default=None, description="certificate chain (PEM): serve HTTPS")
    tls_key: Path | None = Field(default=None, description="its private key (PEM)")
    allow_public: bool = Field(default=False, description="listen on a public address although there are no keys")
    requests_per_second: float = Field(
        default=1000.0,
        ge=SLOWEST,
        le=FASTEST,
        description="of each key, or address without keys; of all processes together",
    )
    megapixels_per_second: float = Field(
        default=1000.0, ge=SLOWEST, le=FASTEST, description="the same, of the images sent"
    )
    log: Literal["auto", "json", "text"] = Field(default="auto", description="auto: text in a terminal, else JSON")
