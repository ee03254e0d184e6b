"""Moving a version between stages: gates, stage, alias and audit row belong together.

    life = Lifecycle(records, ClientShelf(client), policy, settings)
    life.check("resunet", "3", "Production", actor)
    life.promote("resunet", "3", "Production", actor, "new stain")
    life.rollback("resunet", actor, "false positives")

Each change takes the lock that all who decide share, mends what an interrupted one left, writes the decision, and only
then moves. The stage is the truth: an alias that differs follows it, and a stage that differs from the last row is
written down as observed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, NoReturn

from sqlalchemy import Engine

from records import approvals, audit
from registry.changes import Change, Notify, Status, Told
from registry.decisions import Clock, Decision, alone, utc_now
from registry.evidence import Evidence
from registry.history import APPROVED, ARCHIVED, DISPLACED, OVERRIDDEN, PROMOTED, REFUSED, ROLLED_BACK, gated_digest
from registry.judgement import Judgement, judge, keep, refusal, refusal_by, with_documents
from registry.mending import mend_locked, mismatches
from registry.people import Actor
from registry.policy import Policy
from registry.previous import place, strange_records, version_before
from registry.settings import RegistrySettings
from registry.shelf import Shelf
from registry.version_reader import Ready, VersionReader
from registry.versions import ModelState, parse_stage
from resunet.errors import RefusedError

UNPROTECTED: Final = (
    "unprotected: this is a plain MLflow server: anyone who can reach this server can move stages past these gates"
)


class Lifecycle:
    """All decisions on the stages of the models on one shelf.

    Args:
        records: the platform's database.
        shelf: the registry.
        policy: the rules that hold.
        settings: lock and trusted key.
        clock: gives the aware time of a decision.
        notify: is told of each decision after it was made; what it raises is not waited for.
    """

    def __init__(
        self,
        records: Engine,
        shelf: Shelf,
        policy: Policy,
        settings: RegistrySettings,
        clock: Clock = utc_now,
        notify: Notify = lambda told: None,
    ) -> None:
        self.records = records
        self.shelf = shelf
        self.policy = policy
        self.settings = settings
        self.clock = clock
        self._reader = VersionReader(records, shelf, settings.trust)
        self._notify = notify

    def check(self, name: str, version: str, stage: str, actor: Actor) -> Judgement:
        """Ask the gates, and write down what they say; moves nothing.

        Raises:
            SettingsError: no such model, version or stage.
            StoreError: the version's files cannot be fetched now.
        """
        stage = parse_stage(stage)
        state = self.shelf.read(name)
        judgement = self._judge(state, state.row(version).version, stage, actor)
        self._keep(judgement, actor)
        return judgement

    def promote(self, name: str, version: str, stage: str, actor: Actor, reason: str, override: bool = False) -> Change:
        """Move a version to Staging or Production if its gates let it; what was there is archived.

        Args:
            stage: `Staging` or `Production`, in any case.
            override: go past gates that block, for somebody with that role, with a reason; written down as such.

        Returns:
            the change; `changed` is False when the version was alone in that stage already.

        Raises:
            SettingsError: no such model, version or stage.
            StoreError: a version's files cannot be fetched now; nothing was judged, moved or recorded.
            RefusedError: a gate blocks; nothing was moved, and the refusal is on record.
        """
        stage = parse_stage(stage)
        ready = self._reader.ready(name, version, stage)
        with self._decision(name, version) as (known, notices):
            version = known.row(version).version
            state = self._settled(known, actor, notices)
            occupants = state.in_stage(stage)
            if occupants == [version]:
                notices.insert(0, f"version {version} of {name} is in {stage} already: nothing to do")
                return Change(name, version, stage, PROMOTED, changed=False, notices=notices)
            decision = self._new(state, version, stage, actor, reason)
            if decision.from_stage == "Production" and stage != "Production":
                message = f"version {version} of {name} is live: roll it back or archive it first"
                self._refuse(decision, message)
            judgement = self._judge(state, version, stage, actor, ready=ready)
            self._keep(judgement, actor)
            action = PROMOTED
            if judgement.blocking and override:
                self._may_override(decision, judgement, actor)
                action = OVERRIDDEN
            elif judgement.blocking:
                self._refuse(decision, refusal(judgement), judgement)
            displaced = [one for one in occupants if one != version]
            for one in displaced:
                taken = f"version {version} takes its place"
                decision.about(one, stage, "Archived").write(DISPLACED, reason=taken)
            decision.write(action, judgement.digest, judgement.record())
            self.shelf.move(name, version, stage, state.live)
            self._tell(decision, action)
            return Change(name, version, stage, action, True, displaced, list(judgement.judged), notices)

    def rollback(self, name: str, actor: Actor, reason: str, version: str | None = None) -> Change:
        """Put back the version that was live before, leaving out those that were rolled back from or archived.

        One that went live by a decision goes back on the verdict that is on record for its bytes: nothing is measured,
        and its files need not be at hand, since whoever loads them checks them. Where they are at hand they must be
        those bytes. Any other is judged now, but for what compares with the version that is left.

        Args:
            version: go back to this one: one that the records know to have been live, or an archived one that no
                decision ever moved, of which they know nothing. None takes the latest that they know.

        Raises:
            SettingsError: no such model or version.
            StoreError: the files of a version without a verdict cannot be fetched now.
            RefusedError: there is nothing to go back to, or a gate blocks.
        """
        where = place(self.records, self.settings)
        with self._decision(name, version) as (known, notices):
            asked = None if version is None else known.row(version).version
            if asked is None and not audit.moves(self.records, name):
                # Perhaps the wrong records: refused before anything is written into them.
                version_before(known, [], None, where)
            state = self._settled(known, actor, notices)
            moves = audit.moves(self.records, name)
            target = version_before(state, moves, asked, where)
            decision = self._new(state, target, "Production", actor, reason)
            gated = gated_digest(moves, target)
            if gated is None:
                judgement = self._judge(state, target, "Production", actor, beside_live=False)
                if judgement.blocking:
                    self._refuse(decision, refusal(judgement), judgement)
                digest, record, judged = judgement.digest, judgement.record(), list(judgement.judged)
            else:
                same, told = self._reader.same_bytes(state, target, gated)
                notices += told
                if same.action == "block":
                    self._refuse(decision, refusal_by(same, name, target, "Production"))
                judged = [same]
                digest, record = gated, {"verdicts": {one.gate: one.record() for one in judged}}
            displaced = [one for one in state.in_stage("Production") if one != target]
            for one in displaced:
                taken = f"version {target} takes its place"
                decision.about(one, "Production", "Archived").write(ROLLED_BACK, reason=taken)
            decision.write(ROLLED_BACK, digest, record)
            self.shelf.move(name, target, "Production", state.live)
            self._tell(decision, ROLLED_BACK)
            return Change(name, target, "Production", ROLLED_BACK, True, displaced, judged, notices)

    def archive(self, name: str, version: str, actor: Actor, reason: str, stage: str = "Archived") -> Change:
        """Take a version out of use; when it is the live one, nothing is live afterwards.

        Args:
            stage: `Archived`, or `None` for a version that never should have left it.

        Raises:
            SettingsError: no such model or version.
        """
        stage = parse_stage(stage, ("Archived", "None"))
        with self._decision(name, version) as (known, notices):
            version = known.row(version).version
            state = self._settled(known, actor, notices)
            decision = self._new(state, version, stage, actor, reason)
            if decision.from_stage == stage:
                notices.insert(0, f"version {version} of {name} is in {stage} already: nothing to do")
                return Change(name, version, stage, ARCHIVED, changed=False, notices=notices)
            decision.write(ARCHIVED)
            self.shelf.move(name, version, stage, state.live)
            self._tell(decision, ARCHIVED)
            if state.in_stage("Production") == [version]:
                notices.insert(0, f"nothing is live now: models:/{name}/Production no longer resolves")
            return Change(name, version, stage, ARCHIVED, True, notices=notices)

    def approve(self, name: str, version: str, stage: str, actor: Actor, reason: str) -> Change:
        """Note that somebody has looked at a version and agrees that it goes to a stage; moves nothing.

        Raises:
            SettingsError: no such model, version or stage.
            StoreError: the version's files cannot be fetched now: an approval is of bytes.
            RefusedError: the server does not know who asks, or they have not the role.
        """
        stage = parse_stage(stage)
        may = actor.authenticated and actor.name in self.policy.roles.approve
        ready = self._reader.ready(name, version, stage) if may else None
        with self._decision(name, version) as (known, notices):
            version = known.row(version).version
            state = self._settled(known, actor, notices)
            decision = self._new(state, version, stage, actor, reason)
            if not actor.authenticated:
                self._refuse(decision, "an approval needs a server that asks for passwords (lifecycle-auth)")
            if ready is None:
                self._refuse(decision, f"{actor.name} has not the role `approve` in the policy")
            digest = ready.of(state).digest
            decision.write(APPROVED, digest)
            approvals.approve(self.records, digest, stage, approvals.Approval(actor.name, self.clock(), reason))
            self._tell(decision, APPROVED)
            notices.insert(0, f"{actor.name} approves")
            return Change(name, version, stage, APPROVED, changed=False, notices=notices)

    def status(self, name: str) -> Status:
        """Read where the versions of a model stand; changes nothing.

        Raises:
            SettingsError: no such model.
        """
        state = self.shelf.read(name)
        notices = [] if self.shelf.protected else [UNPROTECTED]
        return Status(state, mismatches(state, audit.moves(self.records, name)), notices)

    def mend(self, name: str, actor: Actor) -> list[str]:
        """Let the aliases follow the stages, and write down the moves that no decision made.

        Returns:
            a sentence for each thing mended.
        """
        with alone(self.settings, self.records):
            return mend_locked(self.shelf, self.records, self.shelf.read(name), actor.name, self.clock)

    def note(self, action: str, name: str, version: str, from_stage: str, actor: Actor, reason: str) -> None:
        """Write down what the registry does or refuses besides moves, such as a deletion, and tell of it.

        The caller holds the lock of decisions, and has mended what was left half done.
        """
        decision = Decision(self.records, name, version, from_stage, "None", actor.name, reason, self.clock)
        decision.write(action)
        self._tell(decision, action)

    @contextmanager
    def _decision(self, name: str, version: str | None) -> Iterator[tuple[ModelState, list[str]]]:
        """The model, while nobody else decides; and the notices so far."""
        with alone(self.settings, self.records):
            known = self.shelf.read(name)
            if version is not None:
                known.row(version)
            yield known, []

    def _settled(self, known: ModelState, actor: Actor, notices: list[str]) -> ModelState:
        """The model after what was left half done is mended."""
        strange = strange_records(self.records, known, place(self.records, self.settings))
        mended = mend_locked(self.shelf, self.records, known, actor.name, self.clock)
        notices += mended
        if not self.shelf.protected:
            notices.append(UNPROTECTED)
        notices += strange
        return self.shelf.read(known.name) if mended else known

    def _judge(
        self,
        state: ModelState,
        version: str,
        stage: str,
        actor: Actor,
        beside_live: bool = True,
        ready: Ready | None = None,
    ) -> Judgement:
        champion = None
        if stage == "Production" and beside_live and state.live not in (None, version):
            champion = self._reader.champion(state)
        evidence = Evidence(
            model=state.name,
            stage=stage,
            candidate=self._reader.facts(state, version) if ready is None else ready.of(state),
            champion=champion,
            requester=actor.name if actor.authenticated else "",
            authenticated=actor.authenticated,
        )
        found = with_documents(self.records, evidence)
        # Whoever has lost the role since has no say any more.
        allowed = [one for one in found.approvals if one.who in self.policy.roles.approve]
        return judge(self.policy, replace(found, approvals=allowed))

    def _keep(self, judgement: Judgement, actor: Actor) -> None:
        keep(self.records, judgement, actor.name, self.clock())
        blocked = ", ".join(one.gate for one in judgement.blocking)
        label = f"blocked: {blocked}" if blocked else "allowed"
        self.shelf.label(judgement.model, judgement.version, {judgement.stage: label})

    def _may_override(self, decision: Decision, judgement: Judgement, actor: Actor) -> None:
        """See that somebody may go past gates that block.

        Raises:
            RefusedError: they may not.
        """
        if not actor.authenticated:
            self._refuse(decision, "an override needs a server that asks for passwords (lifecycle-auth)", judgement)
        if actor.name not in self.policy.roles.override:
            self._refuse(decision, f"{actor.name} has not the role `override` in the policy", judgement)
        if not decision.reason.strip():
            self._refuse(decision, "an override needs a reason: --reason", judgement)

    def _refuse(self, decision: Decision, message: str, judgement: Judgement | None = None) -> NoReturn:
        if judgement is None:
            decision.write(REFUSED, reason=message)
        else:
            decision.write(REFUSED, judgement.digest, judgement.record())
        self._tell(replace(decision, reason=message), REFUSED)
        raise RefusedError(message)

    def _new(self, state: ModelState, version: str, stage: str, actor: Actor, reason: str) -> Decision:
        from_stage = state.row(version).stage
        return Decision(self.records, state.name, version, from_stage, stage, actor.name, reason, self.clock)

    def _tell(self, decision: Decision, action: str) -> None:
        self._notify(
            Told(
                action,
                decision.name,
                decision.version,
                decision.from_stage,
                decision.to_stage,
                decision.actor,
                decision.reason,
            )
        )
