"""What a retraining is asked for, and what comes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import TypeAdapter

from pipelines.retraining.challenger import Stage

Start = Literal["production", "scratch"]


@dataclass(frozen=True)
class RetrainOptions:
    """What is asked for.

    Attributes:
        data, where, groups, slices: of the data set; what is empty is what the version in Production had.
        start: from the weights in Production, or from random ones.
        fit: settings of the training, by name; those that are missing are as the version in Production had them.
        anyway: also where nothing was released since the last time.
        promote: ask for Production after Staging.
        reason: who or what asks for it, kept in the run and the records.
        by: who decides.
        version: that an earlier retraining has registered, and was cut off before it went to Staging: nothing is
            trained, it is put forward.
        order: of an alert that asks for it; a `version` that somebody else has trained stays where it is.
    """

    model_name: str = "resunet"
    data: str = ""
    where: str = ""
    groups: str = ""
    slices: str = ""
    start: Start = "production"
    fit: Mapping[str, object] = field(default_factory=dict)
    anyway: bool = False
    promote: bool = False
    reason: str = ""
    by: str = ""
    version: str = ""
    order: str = ""


@dataclass(frozen=True)
class Retrained:
    """What came of it.

    Attributes:
        stage: where the version is now.
        outcome: a sentence.
        as_wished: it is where it was to go.
    """

    version: str
    run_id: str
    batches: tuple[str, ...]
    stage: Stage
    outcome: str
    as_wished: bool

    def to_json(self) -> str:
        """For whoever started the command."""
        return TypeAdapter(Retrained).dump_json(self).decode()
