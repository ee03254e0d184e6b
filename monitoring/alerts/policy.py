"""What is worth telling somebody: a typed file of policies, whose mistakes are named by line.

    policies = load_policies(None)                    # those that come with the platform
    policies = load_policies(Path("alerts.yaml"))     # raises SettingsError: alerts.yaml, line 14: …
    policies[0].when.verdict, policies[0].terms

docs/monitoring/alerts.md is the reference. What conditions there are is in `monitoring.alerts.conditions`.
"""

import re
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from monitoring.alerts.conditions import STRICT, Condition, Duration, duration
from monitoring.alerts.decide import Terms
from monitoring.alerts.state import KEPT_OPEN, Lasting, Rule
from records.policy_text import explain, read_yaml
from records.watch.alerts import Severity
from resunet.errors import SettingsError

DEFAULT_POLICIES: Final = Path(__file__).with_name("policy.yaml")
DEFAULT_RECIPIENT: Final = "default"
_FORMAT: Final = 1
_MODEL: Final = "resunet"
_RECOVERY: Final = timedelta(minutes=15)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_RECIPIENT: Final = re.compile(r"[a-z][a-z0-9_]{0,30}")


def _lasting(given: object) -> object:
    """`3 windows`, or a length of time."""
    if isinstance(given, Lasting):
        return given
    count, _, unit = str(given).strip().partition(" ")
    if unit in ("window", "windows") and count.isascii() and count.isdigit() and 0 < int(count) <= 1000:
        return Lasting(windows=int(count))
    try:
        return Lasting(time=duration(given))
    except PydanticCustomError:
        raise PydanticCustomError(
            "lasting", "it should be a number of windows or a length of time: write 2 windows, or 30m"
        ) from None


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise PydanticCustomError("name", "it should be small letters, digits and dashes: write input-drift")
    return name


def _recipient(name: str) -> str:
    if not _RECIPIENT.fullmatch(name):
        raise PydanticCustomError(
            "recipient",
            "it should be a name in small letters, as oncall is: its addresses are in RESUNET_NOTIFY_ONCALL, not here",
        )
    return name


Name = Annotated[str, AfterValidator(_named)]
RecipientName = Annotated[str, AfterValidator(_recipient)]
For = Annotated[Lasting, BeforeValidator(_lasting)]


class AlertAction(BaseModel):
    """Somebody is told.

    Attributes:
        to: names of lists of addresses, which the environment has: `oncall` is RESUNET_NOTIFY_ONCALL, `default`
            RESUNET_NOTIFY.
        repeat: after so long it is told again, until it recovers or somebody acknowledges it.
    """

    model_config = STRICT

    severity: Severity = "warning"
    to: Annotated[list[RecipientName], Field(min_length=1)] = Field(default_factory=lambda: [DEFAULT_RECIPIENT])
    repeat: Duration = timedelta(days=1)


class RetrainAction(BaseModel):
    """A version is trained on the live images that somebody has released, and put in Staging if its gates let it.

    Attributes:
        at_most_every: no sooner than so long after the last time that it was ordered.
        max_minutes: the training is planned for so long; 0: as long as one by hand.
    """

    model_config = STRICT

    at_most_every: Duration
    max_minutes: Annotated[float, Field(ge=0)] = 0


class PromoteAction(BaseModel):
    """What was retrained goes on to Production, if the gates let it.

    Attributes:
        by_itself: False is the same as no such action: a person promotes.
    """

    model_config = STRICT

    by_itself: bool


class Action(BaseModel):
    """One thing that is done."""

    model_config = STRICT

    alert: AlertAction | None = None
    retrain: RetrainAction | None = None
    promote: PromoteAction | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(self.model_fields_set) != 1 or None in (getattr(self, name) for name in self.model_fields_set):
            raise PydanticCustomError(
                "one_action", "an action is one of alert, retrain and promote: write `- alert: {}`", {}
            )
        return self


class Policy(BaseModel):
    """One thing to watch, and what is done when it is bad for long enough."""

    model_config = STRICT

    name: Name
    model: Annotated[str, Field(min_length=1)] | None = None
    when: Condition
    for_: Annotated[For | None, Field(alias="for")] = None
    recover: For | None = None
    flapping: Duration = timedelta(days=7)
    actions: Annotated[list[Action], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.when.of_no_model and self.model is not None:
            raise PydanticCustomError("of_no_model", "a job or a disk belongs to no model: take `model` out")
        for name, lasting in (("for", self.for_), ("recover", self.recover)):
            if lasting is not None and (lasting.time == timedelta(0)) != self.when.by_windows:
                raise PydanticCustomError(
                    "unit",
                    "{name}: what `{condition}` looks at is counted {how}",
                    {
                        "name": name,
                        "condition": self.when.name,
                        "how": "in windows: write 2 windows" if self.when.by_windows else "in time: write 30m",
                    },
                )
        self._check_actions()
        return self

    def _check_actions(self) -> None:
        kinds = [kind for action in self.actions for kind in action.model_fields_set]
        alerts, retrainings, promotions = (kinds.count(kind) for kind in ("alert", "retrain", "promote"))
        if alerts > 1:
            raise PydanticCustomError("alerts", "there is one alert in a policy: name everybody in its `to`")
        if not alerts:
            raise PydanticCustomError("alerts", "nobody would hear of what is done: write `- alert: {}` too")
        if retrainings > 1 or promotions > 1:
            raise PydanticCustomError("actions", "an action stands once in a policy")
        if retrainings and self.when.of_no_model:
            raise PydanticCustomError("of_no_model", "a job or a disk has no model to retrain: take `retrain` out")
        if promotions and not retrainings:
            raise PydanticCustomError("promote", "promote is of what was retrained: write a `retrain` beside it")

    @property
    def model_name(self) -> str:
        """Registered model that it is about; empty where it is about none."""
        return "" if self.when.of_no_model else self.model or _MODEL

    @property
    def alert(self) -> AlertAction:
        """Who is told, and how urgently."""
        return next(action.alert for action in self.actions if action.alert is not None)

    @property
    def retrain(self) -> RetrainAction | None:
        """The retraining that it orders."""
        return next((action.retrain for action in self.actions if action.retrain is not None), None)

    @property
    def promotes(self) -> bool:
        """Whether what was retrained goes on to Production, if the gates let it."""
        return any(action.promote is not None and action.promote.by_itself for action in self.actions)

    @cached_property
    def terms(self) -> Terms:
        """How long it has to last, and what is told when."""
        recover = Lasting(windows=2) if self.when.by_windows else Lasting(time=_RECOVERY)
        rule = Rule(self.for_ or Lasting(), self.recover or recover, self.flapping)
        return Terms(rule, self.alert.severity, self.alert.repeat, KEPT_OPEN if self.when.by_windows else 0)


class _File(BaseModel):
    """The file's shape."""

    model_config = STRICT

    format: Annotated[int, Field(ge=_FORMAT, le=_FORMAT)]
    policies: Annotated[list[Policy], Field(min_length=1)]


def load_policies(path: Path | None) -> tuple[Policy, ...]:
    """Read the policies.

    Args:
        path: None takes those that come with the platform.

    Raises:
        SettingsError: the file cannot be read or says what makes no sense; file and line are named.
    """
    return parse_policies(policy_text(path), (path or DEFAULT_POLICIES).name)


def orders_retraining(path: Path | None, model: str) -> bool:
    """Whether a policy of a model retrains it; of a file that makes no sense the check of the alerts tells."""
    try:
        return any(policy.retrain is not None and policy.model_name == model for policy in load_policies(path))
    except SettingsError:
        return False


def policy_text(path: Path | None) -> str:
    """The file as it is.

    Raises:
        SettingsError: it cannot be read.
    """
    path = path or DEFAULT_POLICIES
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(
            f"the alert policies {path} cannot be read: {reason}; `python -m monitoring alerts policy --print` prints "
            "those that come with the platform"
        ) from error


def parse_policies(text: str, name: str = "the alert policies") -> tuple[Policy, ...]:
    """Read policies' text.

    Args:
        name: of the file, for messages.

    Raises:
        SettingsError: it says what makes no sense; file and line are named.
    """
    content, lines = read_yaml(text, name)
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"] == ("format",) and first["type"] != "missing":
            raise SettingsError(f"{name}, line {lines['format',]}: this release reads format {_FORMAT}") from error
        raise explain(error, lines, name, ()) from error
    seen = dict[str, int]()
    for number, policy in enumerate(file.policies):
        line = lines["policies", str(number), "name"]
        if policy.name in seen:
            first_line = seen[policy.name]
            raise SettingsError(
                f"{name}, line {line}: {policy.name} is the name of two policies, first in line {first_line}"
            )
        seen[policy.name] = line
    return tuple(file.policies)
