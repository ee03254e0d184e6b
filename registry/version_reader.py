"""Reading the files of versions for a decision, and noting what bytes their numbers stand for.

reader = VersionReader(records, shelf, settings.trust)
ready = reader.ready("resunet", "7", "Production")     # before the lock of decisions is taken
ready.of(state)                                        # while it is held
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine

from records import identities
from records.identities import Registration
from records.trust import Trust
from registry.evidence import VersionFacts
from registry.facts import read_facts
from registry.gates import Judged, Verdict
from registry.patience import wait_for
from registry.shelf import Shelf
from registry.versions import ModelState
from resunet.errors import StoreError

# A rollback is for the worst of days, when an artifact store may be away too: its libraries would try for minutes.
LOOKS_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Ready:
    """What a version's files said, and of which registration that is."""

    registration: Registration
    facts: VersionFacts

    def of(self, state: ModelState) -> VersionFacts:
        """The facts, if the number still stands for the same registration.

        Raises:
            StoreError: it was deleted and made anew meanwhile.
        """
        if state.row(self.facts.version).registration(state.name) != self.registration:
            raise StoreError(f"version {self.facts.version} of {state.name} was made anew meanwhile: try again")
        return self.facts


@dataclass(frozen=True)
class VersionReader:
    """Reads versions on a shelf.

    Attributes:
        trust: whose signature counts; None asks for none.
    """

    records: Engine
    shelf: Shelf
    trust: Trust | None

    def facts(self, state: ModelState, version: str) -> VersionFacts:
        """Read and check a version's files, and note what bytes its number stands for.

        Raises:
            StoreError: they cannot be fetched now.
        """
        with self.shelf.files(state.name, version) as root:
            facts = read_facts(version, root, self.trust)
        if facts.digest and not facts.damage:
            identities.note(self.records, state.row(version).registration(state.name), facts.digest)
        return facts

    def ready(self, name: str, version: str, stage: str) -> Ready:
        """Read what a decision needs of the files, while nobody has to wait for it: a store may be slow.

        Raises:
            SettingsError: no such model or version.
            StoreError: they cannot be fetched now.
        """
        state = self.shelf.read(name)
        row = state.row(version)
        ready = Ready(row.registration(name), self.facts(state, row.version))
        if stage == "Production" and state.live not in (None, row.version):
            self.champion(state)
        return ready

    def champion(self, state: ModelState) -> VersionFacts:
        """The live version: by the digest that was noted of it, else by its files.

        Raises:
            StoreError: they cannot be fetched now.
        """
        assert state.live is not None
        noted = self._noted(state, state.live)
        return self.facts(state, state.live) if noted is None else VersionFacts(state.live, noted)

    def same_bytes(self, state: ModelState, version: str, gated: str) -> tuple[Judged, list[str]]:
        """Whether a version is, byte for byte, what passed its gates before.

        Returns:
            a finding that blocks where it is not, or nobody can say; and what there is to say of it.
        """
        notices = []
        noted = self._noted(state, version)
        try:
            facts = wait_for(LOOKS_SECONDS, lambda: self.facts(state, version))
            digest, told = facts.digest, facts.damage or f"its digest is {facts.digest}, but {gated} passed the gates"
        except (StoreError, TimeoutError) as error:
            why = f"no answer in {LOOKS_SECONDS:.0f} s" if isinstance(error, TimeoutError) else str(error)
            digest = noted or ""
            told = f"what its number stands for now is not what passed the gates, or cannot be told: {why}"
            notices.append(f"its files could not be looked at; whoever loads them will: {why}")
        if digest == gated:
            return Judged("same_bytes", Verdict("pass", f"{gated} passed the gates before"), "allow"), notices
        verdict = Verdict("fail", told, "find out why, and promote another version by its number")
        return Judged("same_bytes", verdict, "block"), notices

    def _noted(self, state: ModelState, version: str) -> str | None:
        return identities.digest_of(self.records, state.row(version).registration(state.name))
