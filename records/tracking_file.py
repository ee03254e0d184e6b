"""Whether the SQLite file that MLflow's address names can be opened: MLflow itself tries for minutes before it says no.

if reason := why_not_opened(mlflow.get_tracking_uri()):
    raise SettingsError(reason)
"""

import os
from pathlib import Path
from typing import Final

# How a database begins; one that nothing was written to yet is empty.
_HEADS: Final = (b"SQLite format 3\0", b"")


def why_not_opened(address: str) -> str:
    """Why the file cannot be opened, in words; empty where it can be, or where the address names none.

    Args:
        address: of a tracking server or its database. Nothing is made where it points to, and no lock waited for.
    """
    if address.partition(":")[0].partition("+")[0] != "sqlite":
        return ""
    from sqlalchemy.engine import make_url  # takes a while, and is of use for this kind of address alone
    from sqlalchemy.exc import ArgumentError

    try:
        database = make_url(address).database
    except (ArgumentError, ValueError):
        return "it is no address: write sqlite:///path/to/mlflow.db"
    if not database or database == ":memory:":
        return ""
    path = Path(database)
    try:
        return _why_not(path)
    except OSError as error:
        return f"{path} cannot be opened: {error.strerror}"


def _why_not(path: Path) -> str:
    if path.is_dir():
        return f"{path} is a folder, not a file"
    if not path.exists():
        # MLflow makes the folders.
        there = next(folder for folder in path.absolute().parents if folder.exists())
        writable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
        return "" if writable else f"{path} is not there and cannot be made: {there} cannot be written to"
    if not path.is_file():  # a pipe would be waited for
        return f"{path} is no file"
    with path.open("rb") as file:
        head = file.read(len(_HEADS[0]))
    return "" if head in _HEADS else f"{path} is no SQLite database"
