"""Many ways to write one place: what is the server's own store is known by any of them, and nothing else is."""

from pathlib import Path

import pytest
from mlflow.server.constants import ARTIFACT_ROOT_ENV_VAR, ARTIFACTS_DESTINATION_ENV_VAR

from registry.guard import locations
from registry.guard.runs import GuardedTrackingStore
from resunet.errors import RefusedError

AZURE = "wasbs://versions@ours.blob.core.windows.net/mlflow"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A proxied store in a folder to which a link leads; the server works beside it."""
    (tmp_path / "disk" / "1").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ARTIFACTS_DESTINATION_ENV_VAR, str(tmp_path / "link"))
    monkeypatch.setenv(ARTIFACT_ROOT_ENV_VAR, "mlflow-artifacts:/")
    return tmp_path


@pytest.mark.parametrize(
    "location",
    [
        "mlflow-artifacts:/1/x",
        "MLFLOW-artifacts:///1/./x/",
        "http://127.0.0.1:5000/ajax-api/2.0/mlflow-artifacts/artifacts/1/x",
        "{store}/link/1/x",
        "{store}/disk/1/x",
        "file://{store}/disk//1/x",
        "/proc/self/cwd/link/1/x",
        "/proc/self/root{store}/disk/1/x",
        "disk/1/x",
    ],
)
def test_every_way_to_write_a_place_is_one_place(store: Path, location: str) -> None:
    written = location.replace("{store}", str(store))
    assert locations.plain(written) == "mlflow-artifacts:/1/x"
    assert locations.ours(written)
    assert {"mlflow-artifacts:/1/x", f"{store}/link/1/x"} <= locations.spellings(written)


@pytest.mark.parametrize(
    "location",
    [
        "{store}/diskette/1",
        "{store}",
        "/proc/self/cwd/1",
        "s3://bucket/1",
        "abfss://versions@ours.dfs.core.windows.net/mlflow/1",
        "mlflow-artifacts:/1/../2",
        "{store}/disk/../disk/1",
        "disk/1/%2e%2e/x",
    ],
)
def test_the_server_writes_nowhere_else_nor_where_a_path_has_two_readings(store: Path, location: str) -> None:
    assert not locations.ours(location.replace("{store}", str(store)))


def test_a_folder_of_its_own_may_be_reached_by_a_link_and_keeps_its_name(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(ARTIFACTS_DESTINATION_ENV_VAR)
    monkeypatch.setenv(ARTIFACT_ROOT_ENV_VAR, f"{store}/link")
    for written in (f"{store}/link/1/x", f"{store}/disk/1/x", f"file://{store}/link/1/x", "/proc/self/cwd/disk/1/x"):
        assert locations.plain(written) == f"{store}/link/1/x"
        assert locations.kept_here(written) and locations.ours(written)
    assert locations.ours(f"{store}/link") and not locations.kept_here(f"{store}/link")
    # Registered under the other name it would not be found by what looks for it.
    assert f"{store}/disk/1/x" not in locations.spellings(f"{store}/disk/1/x")


def test_a_part_of_the_store_that_lies_on_another_disk_is_still_the_store(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store / "other").mkdir()
    (store / "disk" / "2").symlink_to(store / "other")
    assert locations.plain(f"{store}/link/2/x") == "mlflow-artifacts:/2/x"
    assert locations.plain(f"{store}/other/x") == f"{store}/other/x"


@pytest.mark.parametrize("variable", [ARTIFACTS_DESTINATION_ENV_VAR, ARTIFACT_ROOT_ENV_VAR])
def test_in_azure_the_container_and_the_path_are_the_place(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    for one in (ARTIFACTS_DESTINATION_ENV_VAR, ARTIFACT_ROOT_ENV_VAR):
        monkeypatch.delenv(one, raising=False)
    monkeypatch.setenv(variable, AZURE)
    place = "mlflow-artifacts:/1/x" if variable == ARTIFACTS_DESTINATION_ENV_VAR else f"{AZURE}/1/x"
    for account in ("ours", "anything"):
        written = f"wasbs://versions@{account}.blob.core.windows.net/mlflow/1/x"
        assert locations.plain(written) == place
        assert f"{AZURE}/1/x" in locations.spellings(written)
    for elsewhere in (AZURE.replace("versions@", "others@"), AZURE.replace("/mlflow", "/mlflow2")):
        assert not locations.ours(f"{elsewhere}/1/x")
    for whole in (AZURE, AZURE.replace("@ours.", "@anything."), AZURE.removesuffix("/mlflow")):
        assert locations.holds_everything(whole)
    assert not locations.holds_everything(f"{AZURE}/1")


def test_the_place_of_a_whole_store_or_experiment_is_no_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ARTIFACTS_DESTINATION_ENV_VAR, raising=False)
    monkeypatch.setenv(ARTIFACT_ROOT_ENV_VAR, "s3://bucket/mlflow")
    store = GuardedTrackingStore(f"sqlite:///{tmp_path / 'mlflow.db'}", "s3://bucket/mlflow")
    experiment = store.create_experiment("direct")
    store.create_experiment("deep", "s3://bucket/other/team/7/")
    for source in (
        "s3://bucket",
        "s3://bucket/mlflow/",
        f"s3://bucket/mlflow/{experiment}",
        "s3://bucket/other/team",
        "s3://bucket/other/team/7",
    ):
        with pytest.raises(RefusedError, match="the model's own folder"):
            store.refuse_source(source)
    store.refuse_source(f"s3://bucket/mlflow/{experiment}/models/m-1/artifacts")
    # Where the store is served the same files have one name.
    monkeypatch.setenv(ARTIFACTS_DESTINATION_ENV_VAR, "s3://bucket/mlflow")
    monkeypatch.setenv(ARTIFACT_ROOT_ENV_VAR, "mlflow-artifacts:/")
    for source in ("s3://bucket/mlflow", f"s3://bucket/mlflow/{experiment}/models/m-1/artifacts"):
        with pytest.raises(RefusedError, match="as that alone"):
            store.refuse_source(source)
    with pytest.raises(RefusedError, match="the model's own folder"):
        store.refuse_source("s3://bucket")
