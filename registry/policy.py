"""Which gates guard which stage, read from a file whose mistakes are named by line.

policy = load_policy(None)                    # the one that comes with the platform
policy = load_policy(Path("policy.yaml"))     # raises SettingsError: policy.yaml, line 14: …
policy.stages["Production"]                   # the gates, in order, with their settings
policy.digest                                 # what each decision notes
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from records.policy_text import Lines, Place, explain, read_yaml
from registry.gates import Gate, Judged, Outcome, find_gate, known_gates
from resunet.errors import SettingsError

Action = Literal["allow", "warn", "block"]
GuardedStage = Literal["Staging", "Production"]
Name = Annotated[str, Field(min_length=1)]

DEFAULT_POLICY: Final = Path(__file__).with_name("policy.yaml")
_FORMAT: Final = 1
_OUTCOMES: Final = "outcomes"
_STRICT: Final = ConfigDict(extra="forbid", frozen=True, strict=True)


class Outcomes(BaseModel):
    """What each verdict does; what is left out falls back to the policy's, and there to the default."""

    model_config = _STRICT

    fail: Action | None = None
    undecided: Action | None = None
    not_applicable: Action | None = None

    def action(self, outcome: Outcome) -> Action | None:
        """What a verdict does, None where that is not said here."""
        if outcome == "pass":
            return "allow"
        return {"fail": self.fail, "undecided": self.undecided, "not_applicable": self.not_applicable}[outcome]


_DEFAULT_OUTCOMES: Final = Outcomes(fail="block", undecided="block", not_applicable="allow")


class Roles(BaseModel):
    """Names of those who may override a gate, and of those who may approve a version."""

    model_config = _STRICT

    override: list[Name] = Field(default_factory=list)
    approve: list[Name] = Field(default_factory=list)


class _File(BaseModel):
    """The file's shape; the settings of each gate are the gate's own to check."""

    model_config = _STRICT

    format: Annotated[int, Field(ge=_FORMAT, le=_FORMAT)]
    outcomes: Outcomes = Outcomes()
    stages: dict[GuardedStage, dict[str, dict[str, Any] | None]]
    roles: Roles = Roles()


@dataclass(frozen=True)
class Rule:
    """One gate before one stage."""

    gate: Gate[Any]
    settings: BaseModel
    outcomes: Outcomes

    def action(self, outcome: Outcome, fallback: Outcomes) -> Action:
        """What a verdict of this gate does."""
        for said in (self.outcomes, fallback, _DEFAULT_OUTCOMES):
            action = said.action(outcome)
            if action is not None:
                return action
        raise AssertionError(outcome)


@dataclass(frozen=True)
class Policy:
    """The rules that hold, in the order in which they are judged."""

    stages: Mapping[str, Sequence[Rule]]
    outcomes: Outcomes
    roles: Roles

    @cached_property
    def digest(self) -> str:
        """`sha256:…` of all that is decided here, defaults included; comments and order do not count."""
        content = self.dump()
        content["stages"] = {
            stage: sorted(rules, key=lambda rule: str(rule["gate"])) for stage, rules in content["stages"].items()
        }
        content["roles"] = {role: sorted(set(names)) for role, names in content["roles"].items()}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def dump(self) -> dict[str, Any]:
        """Everything that holds, as JSON-able values."""
        return {
            "format": _FORMAT,
            "outcomes": {**_DEFAULT_OUTCOMES.model_dump(), **self.outcomes.model_dump(exclude_none=True)},
            "stages": {
                stage: [
                    {
                        "gate": rule.gate.name,
                        "settings": rule.settings.model_dump(mode="json"),
                        "outcomes": rule.outcomes.model_dump(exclude_none=True),
                    }
                    for rule in rules
                ]
                for stage, rules in self.stages.items()
            },
            "roles": self.roles.model_dump(),
        }

    def needs(self, stage: str) -> frozenset[str]:
        """The kinds of evidence that the gates of a stage read."""
        return frozenset(kind for rule in self.stages.get(stage, ()) for kind in rule.gate.needs)

    def blocks(self, judged: Sequence[Judged]) -> list[Judged]:
        """Those of the verdicts that keep the version out."""
        return [one for one in judged if one.action == "block"]


def load_policy(path: Path | None) -> Policy:
    """Read a policy.

    Args:
        path: None takes the one that comes with the platform.

    Raises:
        SettingsError: the file cannot be read or says what makes no sense; file and line are named.
    """
    path = path or DEFAULT_POLICY
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(f"the policy {path} cannot be read: {reason}; RESUNET_POLICY names it") from error
    return parse_policy(text, path.name)


def parse_policy(text: str, name: str = "the policy") -> Policy:
    """Read a policy's text.

    Args:
        name: of the file, for messages.

    Raises:
        SettingsError: see `load_policy`.
    """
    content, lines = read_yaml(text, name)
    try:
        file = _File.model_validate(content)
    except ValidationError as error:
        if error.errors()[0]["loc"] == ("format",) and error.errors()[0]["type"] != "missing":
            raise SettingsError(f"{name}, line {lines['format',]}: this release reads format {_FORMAT}") from error
        raise explain(error, lines, name, ()) from error
    if not file.stages.get("Production"):
        line = lines.get(("stages", "Production"), lines.get(("stages",), 1))
        raise SettingsError(f"{name}, line {line}: no gate stands before Production: name `intact:` there at least")
    stages: dict[str, tuple[Rule, ...]] = {
        stage: tuple(_rule(stage, gate, settings, lines, name) for gate, settings in gates.items())
        for stage, gates in file.stages.items()
    }
    return Policy(MappingProxyType(stages), file.outcomes, file.roles)


def _rule(stage: str, name: str, given: dict[str, Any] | None, lines: Lines, file: str) -> Rule:
    place: Place = ("stages", stage, name)
    try:
        gate = find_gate(name)
    except SettingsError as error:
        raise SettingsError(f"{file}, line {lines[place]}: {error}") from error
    if gate is None:
        raise SettingsError(
            f"{file}, line {lines[place]}: there is no gate {name!r}; there are {', '.join(sorted(known_gates()))}. "
            "A gate of your own is an entry point of the group resunet.gates in an installed package"
        )
    settings = dict(given or {})
    outcomes = settings.pop(_OUTCOMES, None)
    try:
        said = Outcomes.model_validate({} if outcomes is None else outcomes)
    except ValidationError as error:
        raise explain(error, lines, file, (*place, _OUTCOMES)) from error
    try:
        return Rule(gate, gate.settings.model_validate(settings), said)
    except ValidationError as error:
        raise explain(error, lines, file, place) from error
