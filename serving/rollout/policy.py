"""How a version is rolled out: a typed file, read again whenever it changes.

file = PolicyFile(Path("rollout.yaml"))     # raises SettingsError: rollout.yaml, line 14: …
file.current().limits.error_rate            # looks at the file first
file.error                                  # None, or why what is in the file now does not hold
"""

import math
import re
import threading
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from records.policy_text import explain, read_yaml
from resunet.errors import SettingsError
from serving.rollout.cells import CELLS, Metric

DEFAULT_POLICY: Final = Path(__file__).with_name("policy.yaml")
_FORMAT: Final = 1
_STRICT: Final = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
# Of fewer cells nobody could tell how much they differ.
_SMALLEST_SHARE: Final = 0.005
_LARGEST_SHARE: Final = 0.9
# A header's name is a token (RFC 9110, 5.6.2).
_STICKY: Final = re.compile(r"client|request|header:[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _whole_cells(share: float) -> float:
    if abs(share * CELLS - round(share * CELLS)) > 1e-6:
        raise PydanticCustomError("share", "it should be a multiple of {unit}", {"unit": 1 / CELLS})
    return share


class Stage(BaseModel):
    """When a stage has seen enough to go on.

    Attributes:
        requests: answers of the candidate.
        minutes: since the stage began.
        rules_out: times the limits: a harm of that size has to be excluded.
    """

    model_config = _STRICT

    requests: Annotated[int, Field(ge=1)]
    minutes: Annotated[float, Field(ge=0)]
    rules_out: Annotated[float, Field(ge=1)] = 1.0


class Shadow(Stage):
    """The candidate answers a share of the requests for nobody; a share of 0 leaves the stage out."""

    share: Annotated[float, Field(ge=0, le=1)]


class Step(Stage):
    """The candidate answers a share of the callers."""

    share: Annotated[float, Field(ge=_SMALLEST_SHARE, le=_LARGEST_SHARE), AfterValidator(_whole_cells)]


class Limits(BaseModel):
    """The smallest differences that matter."""

    model_config = _STRICT

    error_rate: Annotated[float, Field(gt=0, lt=1)]
    latency_ratio: Annotated[float, Field(gt=1)]
    confidence_drop: Annotated[float, Field(gt=0, lt=1)]

    def of(self, metric: Metric) -> float:
        """In the unit in which a metric is tested; latency: natural logarithm."""
        if metric == "latency":
            return math.log(self.latency_ratio)
        return self.error_rate if metric == "errors" else self.confidence_drop


class Finish(BaseModel):
    """What happens when all stages are through, or one of them does not end."""

    model_config = _STRICT

    promote: bool = False
    patience_hours: Annotated[float, Field(gt=0)] = 72.0


def _known_stickiness(sticky: str) -> str:
    if not _STICKY.fullmatch(sticky):
        raise PydanticCustomError("sticky", "it should be client, request, or header: and the name of a header")
    return sticky


def _growing(steps: list[Step]) -> list[Step]:
    for number, (earlier, later) in enumerate(pairwise(steps), 2):
        if later.share <= earlier.share:
            raise PydanticCustomError(
                "growing", "step {number} should have a larger share than the one before it", {"number": number}
            )
    return steps


class RolloutPolicy(BaseModel):
    """The whole file; its comments say what each key does."""

    model_config = _STRICT

    format: Annotated[int, Field(ge=_FORMAT, le=_FORMAT)]
    sticky: Annotated[str, AfterValidator(_known_stickiness)] = "client"
    shadow: Shadow
    canary: Annotated[list[Step], Field(min_length=1), AfterValidator(_growing)]
    limits: Limits
    alpha: Annotated[float, Field(gt=0, le=0.2)] = 0.01
    doubt: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    finish: Finish = Finish()

    @property
    def stages(self) -> int:
        """How many there are, the shadow included."""
        return len(self.canary) + (self.shadow.share > 0)


def parse_rollout_policy(text: str, name: str = "the rollout policy") -> RolloutPolicy:
    """Read a policy's text.

    Args:
        name: of the file, for messages.

    Raises:
        SettingsError: it says what makes no sense; file and line are named.
    """
    content, lines = read_yaml(text, name)
    try:
        return RolloutPolicy.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"] == ("format",) and first["type"] != "missing":
            raise SettingsError(f"{name}, line {lines['format',]}: this release reads format {_FORMAT}") from error
        raise explain(error, lines, name, ()) from error


class PolicyFile:
    """A policy that a person edits while it holds. Safe between threads.

    Attributes:
        path: of the file; None: the policy that comes with the platform.
        error: why what the file holds now does not count; None: it does.
    """

    def __init__(self, path: Path | None) -> None:
        """Read it.

        Raises:
            SettingsError: there is nothing yet that could hold instead.
        """
        self.path = path
        self.error: str | None = None
        self._lock = threading.Lock()
        self._text = self._read()
        self._policy = parse_rollout_policy(self._text, self._name)

    def current(self) -> RolloutPolicy:
        """What holds now; a file that is gone or wrong leaves it as it was, and `error` says so."""
        with self._lock:
            try:
                text = self._read()
                # The same text again was judged before, whatever came of it.
                if text != self._text or self.error is not None:
                    self._policy, self._text = parse_rollout_policy(text, self._name), text
                self.error = None
            except SettingsError as error:
                self.error = f"{error}; the policy before it holds until this is mended"
            return self._policy

    @property
    def _name(self) -> str:
        return (self.path or DEFAULT_POLICY).name

    def _read(self) -> str:
        path = self.path or DEFAULT_POLICY
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SettingsError(f"the rollout policy {path} cannot be read: {reason}") from error
