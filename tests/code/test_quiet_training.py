"""What a training lets through of what MLflow warns of."""

import logging
from collections.abc import Iterator

import pytest
from mlflow.utils import requirements_utils

from pipelines.runs.tracking import quiet

LOGGER = logging.getLogger("mlflow.utils.requirements_utils")


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What MLflow says of requirements in an environment without psycopg, after `quiet`."""
    installed = requirements_utils._get_installed_version

    def without_psycopg(package: str, module: str | None = None) -> str:
        if package == "psycopg":
            raise ModuleNotFoundError(package)
        return str(installed(package, module))

    monkeypatch.setattr(requirements_utils, "_get_installed_version", without_psycopg)
    before, levels = list(LOGGER.filters), {name: logging.getLogger(name).level for name in ("mlflow", "alembic")}
    quiet()
    LOGGER.addHandler(caplog.handler)
    yield caplog
    LOGGER.removeHandler(caplog.handler)
    LOGGER.filters[:] = before
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def test_a_driver_that_only_a_server_needs_is_not_missed(warned: pytest.LogCaptureFixture) -> None:
    requirements_utils.warn_dependency_requirement_mismatches(["psycopg[binary]==3.3.9"])
    assert warned.text == ""


@pytest.mark.parametrize("others", [["numpy==1.0"], ["numpy==1.0", "psycopg[binary]==3.3.9"], ["no-such-package==1"]])
def test_every_other_difference_is_told(warned: pytest.LogCaptureFixture, others: list[str]) -> None:
    requirements_utils.warn_dependency_requirement_mismatches(others)
    assert all(name.partition("=")[0] in warned.text for name in others) and "mismatches" in warned.text
