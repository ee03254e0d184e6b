"""All that a gate may look at. It holds what was measured and what was found; gates neither measure nor search."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from records.approvals import Approval
from registry.evidence.documents import SCORES, Document
from registry.evidence.evaluation import Evaluation

D = TypeVar("D", bound=Document)


@dataclass(frozen=True)
class VersionFacts:
    """What is known of one version's bytes.

    Attributes:
        version: its number.
        digest: of its files, `sha256:…`; empty where these could not be listed.
        listing: path and sha256 of each file.
        damage: why its files are not to be believed; empty: they are those that were listed.
        signer: the key that it is signed with and that is trusted; empty where there is none.
        unsigned: why there is no such key.
        evaluation: the version's own, made before it was registered.
        problem: why there is none.
        documents: what was measured of these bytes, by kind.
    """

    version: str
    digest: str
    listing: Mapping[str, str] = field(default_factory=dict)
    damage: str = ""
    signer: str = ""
    unsigned: str = ""
    evaluation: Evaluation | None = None
    problem: str = ""
    documents: Mapping[str, Document | Evaluation] = field(default_factory=dict)

    def get(self, kind: type[D]) -> D | None:
        """The document of a kind, None where it was not measured."""
        found = self.documents.get(kind.kind)
        return found if isinstance(found, kind) else None

    @property
    def scores(self) -> Evaluation | None:
        """Per-image scores on the candidate's test split, measured before the stage."""
        found = self.documents.get(SCORES)
        return found if isinstance(found, Evaluation) else None


@dataclass(frozen=True)
class Evidence:
    """The version in question, the one that is live now, and what people have said.

    Attributes:
        model: the registered model's name.
        stage: where the version is to go.
        candidate, champion: champion is None where nothing is live, or the stage is not Production.
        uses: how many different versions were measured on the candidate's test split, it included.
        approvals: of these bytes for this stage.
        requester, checker: who asks now, and who had the evidence measured; empty where the server does not know.
        authenticated: whether the server knows people by password.
    """

    model: str
    stage: str
    candidate: VersionFacts
    champion: VersionFacts | None = None
    uses: int = 1
    approvals: Sequence[Approval] = ()
    requester: str = ""
    checker: str = ""
    authenticated: bool = False

    @property
    def check(self) -> str:
        """The command that measures what is missing."""
        return f"python -m registry check {self.model} {self.candidate.version} --stage {self.stage}"
