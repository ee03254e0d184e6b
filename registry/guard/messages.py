"""What commands and a guarded server say to each other, as JSON."""

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from registry.judgement import Judgement

PREFIX: Final = "/api/lifecycle"
# The header in which a command says who types it, percent-encoded; it proves nothing, and a password comes before it.
CLAIMED: Final = "X-Resunet-Actor"


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str


class MendRequest(_Request):
    """Let the aliases follow the stages."""


class RollbackRequest(_Request):
    """Go back to the version that was live before, or to the one that is named."""

    version: str | None = None
    reason: str = ""


class VersionRequest(_Request):
    """Something about one version."""

    version: str
    reason: str = ""


class StageRequest(VersionRequest):
    """Something about one version and one stage."""

    stage: str


class PromoteRequest(StageRequest):
    """Move a version; `override` goes past gates that block."""

    override: bool = False


class CheckRequest(StageRequest):
    """Ask the gates; `measure` starts measuring what is missing."""

    measure: bool = False


class ServerAnswer(BaseModel):
    """Who the server thinks is asking, and the digest of the policy that holds there."""

    user: str
    authenticated: bool
    policy: str


class Measuring(BaseModel):
    """How a measurement goes; `told` is the end of what it printed."""

    state: Literal["none", "running", "done", "failed"]
    told: str = ""


class CheckAnswer(BaseModel):
    """What the gates say, and how the measuring that was started goes."""

    judgement: Judgement
    measuring: Measuring | None = None
