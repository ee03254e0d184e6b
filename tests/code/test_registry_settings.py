from pathlib import Path

import pytest
from filelock import FileLock

from registry.decisions import LOCK_FILE, alone
from registry.settings import RegistrySettings
from registry.versions import parse_stage
from resunet.errors import SettingsError


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESUNET_DICE_FLOOR", "0.85")
    monkeypatch.setenv("RESUNET_TRUSTED_KEY", "")
    settings = RegistrySettings.load()
    assert (settings.dice_floor, settings.trusted_key) == (0.85, None)


def test_a_senseless_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESUNET_CHAMPION_MARGIN", "a lot")
    with pytest.raises(SettingsError, match="RESUNET_CHAMPION_MARGIN"):
        RegistrySettings.load()


def test_a_second_change_of_stage_waits_and_then_says_what_holds_it(tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / LOCK_FILE),
        pytest.raises(SettingsError, match=r"another change of stage.*promotion\.lock"),
        alone(RegistrySettings(home=tmp_path, lock_seconds=0.01)),
    ):
        pass


def test_the_lock_is_free_again_after_a_failure(tmp_path: Path) -> None:
    settings = RegistrySettings(home=tmp_path / "new" / "home", lock_seconds=0.01)
    with pytest.raises(ZeroDivisionError), alone(settings):
        raise ZeroDivisionError
    with alone(settings):
        pass


def test_a_home_that_is_a_file_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(SettingsError, match="set RESUNET_HOME"),
        alone(RegistrySettings(home=tmp_path / "file")),
    ):
        pass


@pytest.mark.parametrize(("text", "stage"), [("production", "Production"), (" STAGING ", "Staging")])
def test_a_stage_may_be_written_in_any_case(text: str, stage: str) -> None:
    assert parse_stage(text) == stage


@pytest.mark.parametrize("text", ["Prod", "", "None", "Archived"])
def test_what_is_not_a_stage_to_promote_to_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="choose Staging or Production"):
        parse_stage(text)
