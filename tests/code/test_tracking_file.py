"""A tracking database that cannot be opened is known at once, before MLflow tries for minutes."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from mlflow_state import mlflow_state_kept

from records.tracking_file import why_not_opened


def test_one_that_is_there_is_opened(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/a b/mlflow.db"
    (tmp_path / "a b").mkdir()
    with mlflow_state_kept():
        mlflow.MlflowClient(address).search_experiments()
    assert why_not_opened(address) == ""


@pytest.mark.parametrize("name", ["new.db", "folders/that/are/not/there/new.db"])
def test_one_that_can_be_made_is_not_made_by_asking(name: str, tmp_path: Path) -> None:
    assert why_not_opened(f"sqlite:///{tmp_path}/{name}") == ""
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_none(tmp_path: Path) -> None:
    assert why_not_opened(f"sqlite:///{tmp_path}") == f"{tmp_path} is a folder, not a file"


def test_what_can_be_opened_and_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert why_not_opened(f"sqlite:///{tmp_path}/pipe") == f"{tmp_path}/pipe is no file"
    assert why_not_opened("sqlite:////dev/null") == "/dev/null is no file"


def test_a_place_that_nobody_can_write_to_is_named() -> None:
    assert why_not_opened("sqlite:////proc/1/mlflow.db").endswith("cannot be made: /proc/1 cannot be written to")


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert why_not_opened(f"sqlite:///{tmp_path}/file/mlflow.db").endswith(f"{tmp_path}/file cannot be written to")


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("hours of work, but no database at all")
    assert why_not_opened(f"sqlite:///{tmp_path}/mlflow.db") == f"{tmp_path}/mlflow.db is no SQLite database"
    assert "is no SQLite database" in why_not_opened(f"sqlite+pysqlite:///{tmp_path}/mlflow.db")


def test_what_the_system_refuses_to_look_at_is_told_in_its_words(tmp_path: Path) -> None:
    assert why_not_opened(f"sqlite:///{tmp_path}/{'x' * 300}").endswith("cannot be opened: File name too long")


def test_one_that_somebody_writes_to_is_opened_and_left_as_it_is(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE runs (id)")
    files = set(tmp_path.iterdir())
    assert why_not_opened(f"sqlite:///{tmp_path}/mlflow.db") == "" and set(tmp_path.iterdir()) == files
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        assert why_not_opened(f"sqlite:///{tmp_path}/mlflow.db") == ""


@pytest.mark.parametrize(
    "address",
    ["http://127.0.0.1:5000", "postgresql://nobody@127.0.0.1/x", "file:///proc/x", "sqlite://", "sqlite:///:memory:"],
)
def test_what_names_no_file_is_left_to_mlflow(address: str) -> None:
    assert why_not_opened(address) == ""
