from pathlib import Path

import pytest
from filelock import FileLock
from sqlalchemy import create_engine

from registry.decisions import LOCK_FILE, alone
from registry.settings import RegistrySettings
from registry.versions import parse_stage
from resunet.errors import RecordsError, SettingsError

# Never connected to: what matters is that it is no PostgreSQL, whose lock is another.
RECORDS = create_engine("sqlite://")


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESUNET_POLICY", "rules/policy.yaml")
    monkeypatch.setenv("RESUNET_TRUSTED_KEY", "")
    settings = RegistrySettings.load()
    assert (settings.policy, settings.trusted_key) == (Path("rules/policy.yaml"), None)


def test_addresses_to_notify_are_in_no_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESUNET_NOTIFY", "mailto://ada:secret@mail.example")
    assert "secret" not in repr(RegistrySettings.load())


def test_a_senseless_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESUNET_LOCK_SECONDS", "a lot")
    with pytest.raises(SettingsError, match="RESUNET_LOCK_SECONDS"):
        RegistrySettings.load()


def test_a_second_change_of_stage_waits_and_then_says_what_holds_it(tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / LOCK_FILE),
        pytest.raises(RecordsError, match=r"another change of stage.*promotion\.lock"),
        alone(RegistrySettings(home=tmp_path, lock_seconds=0.01), RECORDS),
    ):
        pass


def test_the_lock_is_free_again_after_a_failure(tmp_path: Path) -> None:
    settings = RegistrySettings(home=tmp_path / "new" / "home", lock_seconds=0.01)
    with pytest.raises(ZeroDivisionError), alone(settings, RECORDS):
        raise ZeroDivisionError
    with alone(settings, RECORDS):
        pass


def test_a_home_that_is_a_file_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(SettingsError, match="set RESUNET_HOME"),
        alone(RegistrySettings(home=tmp_path / "file"), RECORDS),
    ):
        pass


@pytest.mark.parametrize(("text", "stage"), [("production", "Production"), (" STAGING ", "Staging")])
def test_a_stage_may_be_written_in_any_case(text: str, stage: str) -> None:
    assert parse_stage(text) == stage


@pytest.mark.parametrize("text", ["Prod", "", "None", "Archived"])
def test_what_is_not_a_stage_to_promote_to_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="choose Staging or Production"):
        parse_stage(text)
