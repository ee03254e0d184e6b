"""What a test cannot do without: its absence fails in CI, where all of it is installed, and skips elsewhere."""

import importlib
import os
from typing import Any

import pytest


def needed(module: str, why: str) -> Any:
    """A module that not every machine has.

    Args:
        why: what is missing without it, and how to get it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing(f"{why} ({error})")


def missing(why: str) -> Any:
    """Give up a test, since something is not here."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(why)
