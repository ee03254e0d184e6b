"""What the gateway is told of the registry, where that cannot be read at all."""

from pathlib import Path

import mlflow
import pytest

from resunet.errors import StoreError
from serving.gateway.releases import Registry


@pytest.mark.parametrize(
    ("made", "told"), [("folder", "is a folder, not a file"), ("table", "is no SQLite database")], ids=lambda made: made
)
def test_a_database_that_is_none_is_told_at_once_and_is_no_empty_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str, told: str
) -> None:
    place = tmp_path / "mlflow.db"
    if made == "folder":
        place.mkdir()
    else:
        place.write_text("name,version\n")
    # One request more than that would be waited for.
    monkeypatch.setattr("serving.gateway.releases.MlflowClient", lambda: pytest.fail("MLflow was asked"))
    mlflow.set_tracking_uri(f"sqlite:///{place}")
    registry = Registry("models:/resunet/Production")
    for question in (registry.live, lambda: registry.stage_of("resunet", "1")):
        with pytest.raises(StoreError, match=f"MLFLOW_TRACKING_URI names cannot be read: .*{told}"):
            question()


def test_an_address_that_names_no_file_of_this_machine_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked(Exception):  # noqa: N818
        pass

    def client() -> object:
        raise Asked

    monkeypatch.setattr("serving.gateway.releases.MlflowClient", client)
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    with pytest.raises(StoreError, match="Asked"):
        Registry("models:/resunet/Production").live()
