"""Promotion, rollback and mending against a real tracking server."""

import os
import re
import signal
import subprocess
import sys
import warnings
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from filelock import FileLock
from mlflow import MlflowClient
from small_versions import evaluation, register, scores
from sqlalchemy import Engine

from records import audit
from records.database import open_database
from registry.decisions import LOCK_FILE, utc_now
from registry.evidence import VERSION_FOLDER
from registry.mending import mend
from registry.promotion import archive, promote, rollback, status
from registry.settings import RegistrySettings
from registry.signing import keygen
from resunet.errors import RefusedError, SettingsError

ROOT = Path(__file__).parents[2]


@dataclass
class Desk:
    """One model of its own on the session's server, with its own records and home."""

    client: MlflowClient
    engine: Engine
    name: str
    folder: Path
    settings: RegistrySettings
    made: int = 0

    def version(self, dice: float | None = 0.9, fingerprint: str = "sha256:a", key: Path | None = None) -> str:
        self.made += 1
        measured = None if dice is None else evaluation(scores(dice), fingerprint)
        return register(self.client, self.name, self.folder / f"model {self.made}", measured, key)

    def promote(self, version: str, stage: str = "Production") -> list[str]:
        change = promote(self.client, self.engine, self.name, version, stage, "ada", "why not", utc_now, self.settings)
        return change.notices

    def rollback(self) -> str:
        return rollback(self.client, self.engine, self.name, "ada", "", utc_now, self.settings).version

    def click(self, version: str, stage: str) -> None:
        """What the UI does, with its check box off."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.client.transition_model_version_stage(self.name, version, stage)

    def stages(self) -> dict[str, str]:
        found = status(self.client, self.engine, self.name).state
        return {version: row.stage for version, row in found.versions.items()}

    def aliases(self) -> dict[str, str]:
        return dict(status(self.client, self.engine, self.name).state.aliases)

    def rows(self) -> list[tuple[str, str, str | None, str | None]]:
        return [
            (row.action, row.version, row.from_stage, row.to_stage) for row in audit.history(self.engine, self.name)
        ]

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "registry", *words],
            cwd=ROOT,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=120,
        )

    def environment(self) -> dict[str, str]:
        return os.environ | {
            "MLFLOW_TRACKING_URI": self.client.tracking_uri,
            "RESUNET_HOME": str(self.settings.home),
            "RESUNET_DATABASE": "",
        }


@pytest.fixture
def desk(tracking_uri: str, tmp_path: Path, request: pytest.FixtureRequest) -> Desk:
    home = tmp_path / "home"
    home.mkdir()
    return Desk(
        MlflowClient(tracking_uri=tracking_uri),
        open_database(f"sqlite:///{home / 'records.db'}"),
        request.node.name,
        tmp_path,
        RegistrySettings(home=home),
    )


def test_stage_and_alias_move_together_and_the_old_version_is_archived(desk: Desk) -> None:
    first, second = desk.version(0.90), desk.version(0.91)
    notices = desk.promote(first)
    assert any("anyone who can reach this server can move stages past these gates" in n for n in notices)
    desk.promote(second, "staging")
    assert (desk.stages(), desk.aliases()) == (
        {first: "Production", second: "Staging"},
        {"champion": first, "challenger": second},
    )
    desk.promote(second)
    assert (desk.stages(), desk.aliases()) == (
        {first: "Archived", second: "Production"},
        {"champion": second},
    )
    assert status(desk.client, desk.engine, desk.name).mismatches == []
    assert desk.rows() == [
        ("promote", first, "None", "Production"),
        ("promote", second, "None", "Staging"),
        ("archive", first, "Production", "Archived"),
        ("promote", second, "Staging", "Production"),
    ]
    last = audit.history(desk.engine, desk.name)[-1]
    assert last.gates["not_worse"]["outcome"] == "pass"
    assert last.reason == "why not"
    assert last.digest == desk.client.get_model_version(desk.name, second).tags["version_digest"]
    assert audit.verify(desk.engine) is None


def test_promotion_silences_the_stage_deprecation_and_no_other_warning(desk: Desk) -> None:
    version = desk.version()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        desk.promote(version)
        warnings.warn("another", FutureWarning, stacklevel=1)
    assert [str(w.message) for w in caught if issubclass(w.category, FutureWarning)] == ["another"]


def test_a_version_below_the_floor_stays_out_of_production_but_may_be_staged(desk: Desk) -> None:
    version = desk.version(0.6)
    with pytest.raises(RefusedError, match=r"(?s)dice_floor: fail: mean Dice 0\.6000 < 0\.7000.*what to do"):
        desk.promote(version)
    assert (desk.stages(), desk.aliases()) == ({version: "None"}, {})
    assert desk.rows() == [("refuse", version, "None", "Production")]
    desk.promote(version, "Staging")
    assert desk.stages() == {version: "Staging"}


def test_a_version_that_was_never_evaluated_goes_nowhere(desk: Desk) -> None:
    version = desk.version(None)
    with pytest.raises(RefusedError, match=r"evaluated: fail: evaluation\.json is missing"):
        desk.promote(version, "Staging")
    assert desk.stages() == {version: "None"}


@pytest.mark.parametrize(("dice", "goes"), [(0.895, True), (0.885, False)])
def test_a_version_may_lose_no_more_than_the_margin_against_the_live_one(desk: Desk, dice: float, goes: bool) -> None:
    first, second = desk.version(0.9), desk.version(dice)
    desk.promote(first)
    if goes:
        desk.promote(second)
    else:
        with pytest.raises(RefusedError, match=r"not_worse: fail: Dice -0\.0150 \[.*same 12 test images"):
            desk.promote(second)
    assert desk.aliases() == {"champion": second if goes else first}


def test_another_test_split_is_undecided_and_blocks(desk: Desk) -> None:
    first, second = desk.version(0.8, "sha256:a"), desk.version(0.95, "sha256:b")
    desk.promote(first)
    with pytest.raises(RefusedError, match=r"(?s)not_worse: undecided.*another test split.*what to do: evaluate"):
        desk.promote(second)
    assert desk.aliases() == {"champion": first}
    archive(desk.client, desk.engine, desk.name, first, "ada", "", utc_now, desk.settings)
    desk.promote(second)
    assert desk.aliases() == {"champion": second}


def test_a_live_version_with_altered_files_cannot_be_compared_with(desk: Desk) -> None:
    first, second = desk.version(0.8), desk.version(0.9)
    desk.promote(first)
    alter(desk, first)
    with pytest.raises(RefusedError, match=r"not_worse: undecided.*cannot be compared with.*model\.onnx"):
        desk.promote(second)


def alter(desk: Desk, version: str) -> None:
    """Overwrite the serving file in the artifact store, as whoever reaches a plain server can."""
    model_id = desk.client.get_model_version(desk.name, version).source.removeprefix("models:/")
    changed = desk.folder / "changed"
    (changed / VERSION_FOLDER).mkdir(parents=True, exist_ok=True)
    (changed / VERSION_FOLDER / "model.onnx").write_bytes(b"something else")
    desk.client.log_model_artifacts(model_id, str(changed))


def test_a_version_with_altered_files_is_refused_by_name(desk: Desk) -> None:
    version = desk.version()
    alter(desk, version)
    with pytest.raises(RefusedError, match=r"intact: fail: .*artifacts/version/model\.onnx"):
        desk.promote(version, "Staging")
    assert desk.rows() == [("refuse", version, "None", "Staging")]


def test_with_a_trusted_key_only_signed_versions_move(desk: Desk, tmp_path: Path) -> None:
    private, public = keygen(tmp_path / "keys")
    other, _ = keygen(tmp_path / "others")
    desk.settings = RegistrySettings(home=desk.settings.home, trusted_key=public)
    unsigned, strange, signed = desk.version(), desk.version(key=other), desk.version(key=private)
    with pytest.raises(RefusedError, match=r"model\.sig is missing"):
        desk.promote(unsigned)
    with pytest.raises(RefusedError, match="another key"):
        desk.promote(strange)
    desk.promote(signed)
    assert desk.aliases() == {"champion": signed}


def test_promoting_to_the_stage_it_has_says_so_and_moves_nothing(desk: Desk) -> None:
    version = desk.version()
    desk.promote(version)
    assert "already" in desk.promote(f"0{version}", "PRODUCTION")[0]
    assert len(desk.rows()) == 1


def test_the_live_version_is_not_moved_to_staging(desk: Desk) -> None:
    version = desk.version()
    desk.promote(version)
    with pytest.raises(RefusedError, match="is live"):
        desk.promote(version, "Staging")
    assert desk.stages() == {version: "Production"}


def test_wrong_names_are_answered_with_those_that_exist(desk: Desk) -> None:
    version = desk.version()
    with pytest.raises(SettingsError, match=f"has no version '7'; there is: {version}"):
        desk.promote("7")
    with pytest.raises(SettingsError, match="choose Staging or Production"):
        desk.promote(version, "Prod")
    with pytest.raises(SettingsError, match=f"no registered model 'resnet'; there is: .*{re.escape(desk.name)}"):
        promote(desk.client, desk.engine, "resnet", "1", "Staging", "ada", "", utc_now, desk.settings)


def test_rollback_walks_back_and_never_to_what_was_rolled_back_from(desk: Desk) -> None:
    one, two, three = desk.version(0.90), desk.version(0.91), desk.version(0.92)
    for version in (one, two, three):
        desk.promote(version)
    assert desk.rollback() == two
    assert (desk.stages()[three], desk.aliases()) == ("Archived", {"champion": two})
    assert desk.rollback() == one
    with pytest.raises(RefusedError, match="no version to go back to"):
        desk.rollback()
    assert desk.aliases() == {"champion": one}
    desk.promote(three)
    assert desk.rollback() == one
    assert audit.verify(desk.engine) is None


def test_rollback_never_takes_a_version_that_was_only_staged(desk: Desk) -> None:
    one, two, three = desk.version(0.90), desk.version(0.91), desk.version(0.92)
    desk.promote(one, "Staging")
    desk.promote(two, "Staging")
    desk.promote(three)
    assert desk.stages()[one] == "Archived"
    with pytest.raises(RefusedError, match="no version to go back to"):
        desk.rollback()


def test_rollback_refuses_a_version_whose_files_were_altered(desk: Desk) -> None:
    one, two = desk.version(0.90), desk.version(0.91)
    desk.promote(one)
    desk.promote(two)
    alter(desk, one)
    with pytest.raises(RefusedError, match=r"intact: fail.*model\.onnx"):
        desk.rollback()
    assert desk.aliases() == {"champion": two}


def test_rollback_without_records_takes_the_version_archived_last_and_says_so(desk: Desk) -> None:
    one, two, three = desk.version(0.90), desk.version(0.91), desk.version(0.92)
    for version in (one, two, three):
        desk.promote(version)
    lost = open_database(f"sqlite:///{desk.folder / 'new.db'}")
    change = rollback(desk.client, lost, desk.name, "ada", "", utc_now, desk.settings)
    assert change.version == two
    assert "the records know of no version that was live before" in change.notices[0]


def test_a_click_in_the_ui_is_shown_mended_and_remembered(desk: Desk) -> None:
    one, two = desk.version(0.90), desk.version(0.91)
    desk.click(one, "Production")
    found = status(desk.client, desk.engine, desk.name)
    assert found.mismatches == [
        f"@champion is unset, but version {one} is in Production",
        f"version {one} is in Production, the records say None",
    ]
    assert any("anyone who can reach this server" in notice for notice in found.notices)
    shown = desk.command("status", desk.name, "--mend")
    assert shown.returncode == 0, shown.stderr
    assert desk.aliases() == {"champion": one}
    assert status(desk.client, desk.engine, desk.name).mismatches == []
    desk.promote(two)
    assert desk.rows()[0] == ("observed", one, "None", "Production")
    assert desk.rollback() == one


def test_two_versions_in_production_are_shown_and_a_promotion_leaves_one(desk: Desk) -> None:
    one, two = desk.version(0.90), desk.version(0.90)
    desk.promote(one)
    desk.click(two, "Production")
    assert any("are in Production" in text for text in status(desk.client, desk.engine, desk.name).mismatches)
    desk.promote(one)
    assert (desk.stages(), desk.aliases()) == ({one: "Production", two: "Archived"}, {"champion": one})


PROMOTE_AND_DIE = """
import os, signal, sys
from mlflow import MlflowClient
from records.database import open_database
from records.settings import RecordsSettings
from registry.decisions import LOCK_FILE, utc_now
from registry.mending import mend
from registry.promotion import promote

class Dying(MlflowClient):
    def {method}(self, *args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)

engine = open_database(RecordsSettings.load().database_url)
promote(Dying(), engine, sys.argv[1], sys.argv[2], "Production", "ada", "", utc_now)
"""


@pytest.mark.parametrize(
    ("method", "moved"),
    [("set_registered_model_alias", True), ("transition_model_version_stage", False)],
)
def test_a_promotion_killed_half_way_is_shown_and_the_next_command_mends_it(
    desk: Desk, method: str, moved: bool
) -> None:
    one, two, three = desk.version(0.90), desk.version(0.91), desk.version(0.92)
    desk.promote(one)
    died = subprocess.run(
        [sys.executable, "-c", PROMOTE_AND_DIE.format(method=method), desk.name, two],
        cwd=ROOT,
        env=desk.environment(),
        timeout=120,
    )
    assert died.returncode == -signal.SIGKILL
    live = two if moved else one
    assert desk.stages()[live] == "Production"
    assert desk.aliases() == {"champion": one}
    shown = desk.command("status", desk.name)
    assert "mismatch:" in shown.stdout
    assert f"status {desk.name} --mend" in shown.stdout
    desk.promote(three, "Staging")
    assert desk.aliases() == {"champion": live, "challenger": three}
    assert status(desk.client, desk.engine, desk.name).mismatches == []
    desk.promote(three)
    assert desk.rollback() == live


def test_two_promotions_at_once_leave_exactly_one_live_version(desk: Desk) -> None:
    one, two, three = desk.version(0.90), desk.version(0.95), desk.version(0.92)
    desk.promote(one)
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "registry", "promote", desk.name, version, "Production"],
            cwd=ROOT,
            env=desk.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for version in (two, three)
    ]
    ended = {process.communicate(timeout=120)[0]: process.returncode for process in both}
    live = [version for version, stage in desk.stages().items() if stage == "Production"]
    # The lesser one may go live first, but never over the better one: it is judged against who is live then.
    assert live == [two], ended
    assert desk.aliases() == {"champion": two}
    assert sorted(ended.values()) in ([0, 0], [0, 2])
    assert audit.verify(desk.engine) is None
    assert status(desk.client, desk.engine, desk.name).mismatches == []


def test_no_command_moves_anything_while_another_holds_the_lock(desk: Desk) -> None:
    one, two = desk.version(0.90), desk.version(0.91)
    desk.promote(one)
    before = desk.stages(), desk.aliases(), desk.rows()
    desk.settings = RegistrySettings(home=desk.settings.home, lock_seconds=0.05)
    common = (desk.client, desk.engine, desk.name)
    who = ("ada", "", utc_now, desk.settings)
    with FileLock(desk.settings.home / LOCK_FILE):
        for command in (
            lambda: promote(*common, two, "Production", *who),
            lambda: rollback(*common, *who),
            lambda: archive(*common, one, *who),
            lambda: mend(*common, "ada", utc_now, desk.settings),
        ):
            with pytest.raises(SettingsError, match="another change of stage"):
                command()
    assert (desk.stages(), desk.aliases(), desk.rows()) == before


def test_the_commands_promote_refuse_and_list(desk: Desk) -> None:
    good, bad = desk.version(0.9), desk.version(0.5)
    done = desk.command("promote", desk.name, good, "Production", "--reason", "it is good", "--actor", "grace")
    assert done.returncode == 0, done.stderr
    assert "FutureWarning" not in done.stderr
    assert "is in Production" in done.stdout
    assert "anyone who can reach this server can move stages past these gates" in done.stdout
    refused = desk.command("promote", desk.name, bad, "Production")
    assert refused.returncode == 2
    assert "dice_floor: fail" in refused.stderr
    assert "Traceback" not in refused.stderr
    again = desk.command("promote", desk.name, good, "Production")
    assert (again.returncode, "already" in again.stdout) == (0, True)
    listed = desk.command("audit", desk.name).stdout
    assert "grace" in listed
    assert "it is good" in listed
    assert "refuse" in listed
    assert "holds: 2 rows" in desk.command("audit", "--verify").stdout
    assert "0.9000" in desk.command("show", desk.name, good).stdout
    table = desk.command("status", desk.name).stdout
    assert "@champion" in table
    assert "01234567" in table


def test_the_clock_that_is_passed_in_dates_the_row(desk: Desk) -> None:
    version = desk.version()
    moment = datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)
    ticks: list[datetime] = []

    def clock() -> datetime:
        ticks.append(moment + timedelta(seconds=len(ticks)))
        return ticks[-1]

    promote(desk.client, desk.engine, desk.name, version, "Staging", "ada", "", clock, desk.settings)
    assert [row.when for row in audit.history(desk.engine, desk.name)] == [moment]
