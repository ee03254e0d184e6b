"""What several folders of tests share: one real tracking server a session, and how often processes look for garbage."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Each folder uses what the other one has for its tests.
sys.path.insert(0, str(Path(__file__).parent / "code"))
sys.path.insert(0, str(Path(__file__).parent / "system"))

from mlflow_server import tracking_server
from mlflow_state import mlflow_state_kept
from ready_tables import with_tables

from records.garbage import collect_seldom

# Half of what hundreds of short processes would compute is looking for garbage; the workers of xdist are some of them.
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(Path(__file__).parent / "quick"), os.environ.get("PYTHONPATH")])
)
collect_seldom()

# Where two files run at a time, these come first: else one of them would be left to run on alone.
LONGEST = (
    "test_readme",
    "test_demo",
    "test_training",
    "test_benchmarks_smoke",
    "test_retrain_loop",
    "test_tracking_outage",
    "test_monitoring_weeks",
    "test_gateway_follow",
    "test_gateway_rollout",
    "test_gateway_workers",
    "test_evidence",
    "test_version_path",
    "test_gateway_durable",
    "test_serving_large",
)
# And for the same reason files of `code` come last, which take a second or two.
FOLDERS = ("system", "model", "code")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate((*LONGEST, *FOLDERS))}
    items.sort(key=lambda item: places.get(item.path.stem, places.get(item.path.parent.name, len(places))))


def pytest_collection_finish() -> None:
    """What collecting the tests made stays: it is not looked at again."""
    gc.freeze()


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real `mlflow server` that lives as long as the session. Name your own models."""
    with tracking_server(with_tables(tmp_path_factory.mktemp("tracking"))) as url:
        yield url


@pytest.fixture(autouse=True, scope="session")
def home_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests leave in a home does not lie in the checkout's own, and nobody's own settings reach them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("RESUNET_") and name != "RESUNET_REQUIRE_NUCLEI"]:
            patch.delenv(name)
        patch.setenv("RESUNET_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(autouse=True, scope="module")
def mlflow_as_before() -> Iterator[None]:
    """No file of tests inherits another's servers."""
    with mlflow_state_kept():
        yield
