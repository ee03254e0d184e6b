"""What several folders of tests share: one real tracking server a session."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "system"))

from mlflow_server import tracking_server


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real `mlflow server` that lives as long as the session. Name your own models."""
    with tracking_server(tmp_path_factory.mktemp("tracking")) as url:
        yield url
