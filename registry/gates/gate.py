"""What a gate is: one function from evidence to a verdict.

    @gate(needs=[Robustness])
    def robustness(evidence: Evidence, settings: RobustnessSettings) -> Verdict: ...

The function's name is the gate's, its second parameter's type says which settings the policy may give it, and its
docstring is what `python -m registry gates` shows. `docs/gates.md` has a whole package with a gate of its own.
"""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar, cast, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict

from registry.evidence import DOCUMENTS, Document, Evidence
from registry.evidence.documents import SCORES

Outcome = Literal["pass", "fail", "undecided", "not_applicable"]


class GateSettings(BaseModel):
    """Base of what the policy may say to a gate; a gate without settings takes this one.

    Values have the type that is asked for: no number in quotes, no `yes` for 1.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


S = TypeVar("S", bound=GateSettings)


@dataclass(frozen=True)
class Verdict:
    """What one gate says, on what evidence, and what to do when it does not pass.

    Attributes:
        more_images: about how many more test images would decide, where that is what is missing.
        again: what the gate read says too little, as timing on a busy machine does: the next `check` measures it anew.
        unmeasured: nobody has measured yet what the gate reads; the advice is the command that does.
    """

    outcome: Outcome
    evidence: str
    advice: str = ""
    more_images: int | None = None
    again: bool = False
    unmeasured: bool = False


@dataclass(frozen=True)
class Gate(Generic[S]):
    """A gate that a policy can name.

    Attributes:
        needs: kinds of evidence that it reads; `check` measures those that are missing.
    """

    name: str
    judge: Callable[[Evidence, S], Verdict]
    settings: type[S]
    needs: frozenset[str] = field(default_factory=frozenset)
    help: str = ""

    def __call__(self, evidence: Evidence, settings: S) -> Verdict:
        """Ask it.

        Raises:
            TypeError: it answered something that is no verdict.
        """
        verdict = self.judge(evidence, settings)
        if not isinstance(verdict, Verdict) or verdict.outcome not in get_args(Outcome):
            raise TypeError(f"it has to answer a Verdict ({', '.join(get_args(Outcome))}), not {verdict!r}")
        return verdict


@dataclass(frozen=True)
class Judged:
    """A verdict, whose it is, and what the policy makes of it."""

    gate: str
    verdict: Verdict
    action: Literal["allow", "warn", "block"]

    def record(self) -> dict[str, str]:
        """What an audit row keeps of it."""
        return {"outcome": self.verdict.outcome, "evidence": self.verdict.evidence, "action": self.action}


def gate(*, needs: Iterable[type[Document] | str] = ()) -> Callable[[Callable[[Evidence, S], Verdict]], Gate[S]]:
    """Make a gate of a function (evidence, settings) → verdict.

    Args:
        needs: the kinds of evidence that it reads.

    Raises:
        TypeError: its second parameter is not annotated with a class of settings, or nobody measures what it needs.
    """
    kinds = frozenset(need if isinstance(need, str) else need.kind for need in needs)
    unknown = sorted(kinds - {SCORES, *DOCUMENTS})
    if unknown:
        known = ", ".join([SCORES, *DOCUMENTS])
        raise TypeError(f"nobody measures evidence of the kind {', '.join(unknown)}; there is {known}")

    def make(judge: Callable[[Evidence, S], Verdict]) -> Gate[S]:
        name = judge.__name__
        parameters = list(inspect.signature(judge).parameters)
        settings = get_type_hints(judge).get(parameters[1]) if len(parameters) == 2 else None
        if not (isinstance(settings, type) and issubclass(settings, GateSettings)):
            raise TypeError(f"the gate {name} has to be a function of (evidence: Evidence, settings: a GateSettings)")
        return Gate(name, judge, cast(type[S], settings), kinds, inspect.getdoc(judge) or "")

    return make


AnyGate = Gate[Any]
