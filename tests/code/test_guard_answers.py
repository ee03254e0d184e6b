"""What a guarded server says when something goes wrong: enough to act on, and nothing of its own disk."""

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import OperationalError

from registry.guard.answers import told_as_mlflow, without_places
from resunet.errors import RecordsError, RefusedError, ResunetError, SettingsError, StoreError, VersionError


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (RefusedError("floor: fail"), "BAD_REQUEST", 400),
        (VersionError("model.onnx was changed"), "BAD_REQUEST", 400),
        (SettingsError("there is no version 7"), "INVALID_PARAMETER_VALUE", 400),
        (StoreError("the store is away"), "TEMPORARILY_UNAVAILABLE", 503),
        (RecordsError("the database is away"), "TEMPORARILY_UNAVAILABLE", 503),
    ],
)
def test_this_platforms_errors_keep_their_sentence(error: ResunetError, code: str, status: int) -> None:
    for wrapped in (False, True):
        with pytest.raises(MlflowException) as raised, told_as_mlflow():
            if wrapped:  # as MLflow does with what is raised in its transactions
                raise MlflowException(message=error) from error
            raise error
        assert (raised.value.message, raised.value.error_code) == (str(error), code)
        assert raised.value.get_http_status_code() == status


def test_what_nobody_foresaw_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(MlflowException) as raised, told_as_mlflow():
        raise KeyError("/srv/secret/place")
    assert raised.value.get_http_status_code() == 500
    assert raised.value.__cause__ is None and raised.value.__suppress_context__
    assert "secret" not in raised.value.serialize_as_json()
    assert "/srv/secret/place" in caplog.text and "Traceback" in caplog.text


def test_no_statement_of_the_registrys_database_is_told() -> None:
    error = OperationalError("SELECT secret FROM users", {"name": "ada"}, Exception("no such table"))
    with pytest.raises(MlflowException, match="the registry's database") as raised, told_as_mlflow():
        raise MlflowException(message=error) from error
    assert "SELECT" not in raised.value.message and raised.value.get_http_status_code() == 503


def test_mlflows_own_errors_stay_as_they_are() -> None:
    error = MlflowException("there is no such model")
    with pytest.raises(MlflowException) as raised, told_as_mlflow():
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "the SQLite database /srv/own/records.db cannot be used: x",
            "the SQLite database records.db cannot be used: x",
        ),
        ("looked in '/srv/own/records.db' (RESUNET_HOME is /srv/own)", "looked in 'records.db' (RESUNET_HOME is own)"),
        ("changed: 'artifacts/version/model.onnx', MLmodel", "changed: 'artifacts/version/model.onnx', MLmodel"),
        ("models:/resunet/Production no longer resolves", "models:/resunet/Production no longer resolves"),
        ("http://127.0.0.1:5000/api/2.0 does not answer", "http://127.0.0.1:5000/api/2.0 does not answer"),
        ("3 of 4 images and/or masks", "3 of 4 images and/or masks"),
    ],
)
def test_paths_of_the_server_are_shortened_and_nothing_else_is(text: str, told: str) -> None:
    assert without_places(text) == told
