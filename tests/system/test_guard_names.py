"""Names and numbers that stand for other bytes than before: what is live stays what was gated."""

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest
from guard_scenes import Doors, refused
from guarded_server import GuardedServer, Live
from mlflow.artifacts import download_artifacts
from small_versions import register_folder

UNITS = ("/api/2.0/mlflow", "/ajax-api/2.0/mlflow")


@pytest.mark.parametrize("unit", UNITS)
def test_what_is_live_is_neither_deleted_nor_renamed_nor_made_anew(doors: Doors, unit: str) -> None:
    server, other = doors.server, f"{doors.name} other"
    server.version(other, 0.5)
    told = "is in Production and cannot be"
    for version in (doors.good, f"0{doors.good}"):
        body = {"name": doors.name, "version": version}
        refused(server.send("DELETE", f"{unit}/model-versions/delete", body), told)
    refused(server.send("DELETE", f"{unit}/registered-models/delete", {"name": doors.name}), told)
    away = {"name": doors.name, "new_name": f"{doors.name} away"}
    refused(server.send("POST", f"{unit}/registered-models/rename", away), told)
    into = server.send("POST", f"{unit}/registered-models/rename", {"name": other, "new_name": doors.name})
    assert into.status == 400, into
    assert server.send("POST", f"{unit}/registered-models/create", {"name": doors.name}).status == 400
    doors.unchanged()


def nothing_makes_it_live(server: GuardedServer, name: str, version: str) -> None:
    """No decision and no click for a version that has the number of one that was once live."""
    click = {"name": name, "version": version, "stage": "Production"}
    alias = {"name": name, "alias": "champion", "version": version}
    for attempt in (
        server.decide("rollback", name),
        server.decide("rollback", name, version=version),
        server.decide("promote", name, version=version, stage="Production"),
        server.send("POST", f"{UNITS[0]}/model-versions/transition-stage", click),
        server.send("POST", f"{UNITS[1]}/registered-models/alias", alias),
    ):
        assert attempt.status == 400, attempt
        assert server.live(name) == Live([], None, {})


def test_a_model_made_anew_under_its_old_name_inherits_nothing(gate_server: GuardedServer) -> None:
    server, name = gate_server, "made anew"
    first, second = server.promoted(name, 0.90), server.promoted(name, 0.91)
    assert server.decide("archive", name, version=second).status == 200
    assert server.send("DELETE", f"{UNITS[0]}/registered-models/delete", {"name": name}).status == 200
    weak = server.version(name, 0.5)
    assert weak == first
    nothing_makes_it_live(server, name, weak)
    # The same by another model that takes the name.
    other = "made anew, too"
    server.version(other, 0.5)
    assert server.send("DELETE", f"{UNITS[0]}/registered-models/delete", {"name": name}).status == 200
    renamed = {"name": other, "new_name": name}
    assert server.send("POST", f"{UNITS[0]}/registered-models/rename", renamed).status == 200
    refused(server.decide("rollback", name, version="1"), "version 1")
    assert server.live(name) == Live([], None, {})
    assert [row for row in server.rows(name) if row[0] in ("delete", "rename")] == [
        ("delete", "*", "unknown"),
        ("delete", "*", "unknown"),
        ("rename", "*", "unknown"),
    ]


def test_a_model_that_was_renamed_away_leaves_nothing_to_the_next_one(gate_server: GuardedServer) -> None:
    server, name, away = gate_server, "renamed away", "renamed away, where to"
    first, second = server.promoted(name, 0.90), server.promoted(name, 0.91)
    assert server.decide("archive", name, version=second).status == 200
    assert server.send("POST", f"{UNITS[0]}/registered-models/rename", {"name": name, "new_name": away}).status == 200
    weak = server.version(name, 0.5)
    assert weak == first
    nothing_makes_it_live(server, name, weak)
    # And back again, over the one that took its name.
    back = {"name": away, "new_name": name}
    assert server.send("POST", f"{UNITS[0]}/registered-models/rename", back).status == 400
    # Where its versions stand now was no decision under this name.
    moved = [("observed", first), ("observed", second)]
    assert [row[:2] for row in server.rows(away)] == [("rename", "*"), *moved]
    assert server.live(name) == Live([], None, {})


def test_a_new_name_is_written_down_before_the_model_has_it(gate_server: GuardedServer) -> None:
    server, name = gate_server, "interrupted"
    server.client.create_registered_model(name)
    with contextlib.closing(sqlite3.connect(server.folder / "mlflow.db", timeout=60)) as tables:
        # As if the server were killed in the middle.
        tables.execute(
            "CREATE TRIGGER interrupted BEFORE UPDATE OF name ON registered_models "
            f"WHEN OLD.name = '{name}' BEGIN SELECT RAISE(ABORT, 'killed'); END"
        )
        tables.commit()
        try:
            body = {"name": name, "new_name": f"{name} and away"}
            assert server.send("POST", f"{UNITS[0]}/registered-models/rename", body).status >= 400
        finally:
            tables.execute("DROP TRIGGER interrupted")
            tables.commit()
    assert server.client.get_registered_model(name).name == name
    for one in (name, f"{name} and away"):
        assert server.rows(one) == [("rename", "*", "unknown")]


def test_the_same_bytes_under_another_name_ask_the_gates_again(doors: Doors) -> None:
    server, other = doors.server, f"{doors.name} copied"
    server.client.create_registered_model(other)
    for version, status in ((doors.weak, 400), (doors.good, 200)):
        copy = server.client.copy_model_version(f"models:/{doors.name}/{version}", other)
        answer = server.decide("promote", other, version=copy.version, stage="Production")
        assert answer.status == status, answer
    assert server.live(other).files == doors.before.files


@pytest.mark.parametrize(
    "source",
    [
        "file:///etc",
        "/etc",
        "http://127.0.0.1:9/api/2.0/mlflow-artifacts/artifacts/1/models",
        "https://example.invalid/model",
        "s3://bucket/model",
        "mlflow-artifacts://elsewhere:5000/1/models",
        "mlflow-artifacts:/1/../2",
        "runs:/0123456789abcdef0123456789abcdef/model",
        "models:/nobody/1",
        "dbfs:/model",
    ],
)
def test_files_elsewhere_go_nowhere(gate_server: GuardedServer, source: str) -> None:
    name = "files elsewhere"
    if not gate_server.client.search_registered_models(f"name='{name}'"):
        gate_server.client.create_registered_model(name)
    for unit in UNITS:
        made = gate_server.send("POST", f"{unit}/model-versions/create", {"name": name, "source": source})
        if made.status == 200:  # MLflow registers what it does not look at
            version = json.loads(made.text)["model_version"]["version"]
            answer = gate_server.decide("promote", name, version=version, stage="Staging")
            refused(answer, "outside this server's artifact store")
        else:
            assert made.status in (400, 404, 500), made
    assert gate_server.live(name) == Live([], None, {})


def test_who_loads_by_stage_or_by_alias_gets_the_gated_bytes(
    doors: Doors, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", doors.server.url)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", doors.server.url)
    refused(doors.move(UNITS[0]))
    for number, uri in enumerate((f"models:/{doors.name}/Production", f"models:/{doors.name}@champion")):
        root = Path(download_artifacts(uri, dst_path=str(tmp_path / str(number))))
        assert f"model_version: '{doors.good}'" in (root / "registered_model_meta").read_text()
        served = (root / "artifacts" / "version" / "model.onnx").read_bytes()
        kept = doors.server.folder / "artifacts" / doors.server.place(doors.name, doors.good)
        assert served == (kept / "artifacts" / "version" / "model.onnx").read_bytes()


def test_files_that_were_changed_after_the_check_are_found_at_the_promotion(
    gate_server: GuardedServer, tmp_path: Path
) -> None:
    server, name = gate_server, "changed between"
    version = server.version(name)
    checked = json.loads(server.decide("check", name, version=version, stage="Production").text)["judgement"]
    assert {one["action"] for one in checked["judged"]} == {"allow"}
    # Past the server, as somebody with an account on its machine would.
    place = server.folder / "artifacts" / server.place(name, version)
    (place / "artifacts" / "version" / "model.onnx").write_bytes(b"other weights")
    refused(server.decide("promote", name, version=version, stage="Production"), "intact: fail")
    assert server.live(name) == Live([], None, {})


def test_files_with_another_list_are_other_bytes_and_have_no_evidence(
    gate_server: GuardedServer, tmp_path: Path
) -> None:
    from small_versions import evaluation, scores

    from records.digests import write_digests

    server, name = gate_server, "claims anothers digest"
    good = server.version(name, 0.95)
    folder = tmp_path / "forged"
    (folder / "artifacts" / "version").mkdir(parents=True)
    (folder / "MLmodel").write_text("flavors: {}\n")
    (folder / "artifacts" / "version" / "model.onnx").write_bytes(b"other weights")
    document = evaluation(scores(0.95))
    document.write(folder / "artifacts" / "version")
    write_digests(folder)
    claimed = server.client.get_model_version(name, good).tags["version_digest"]
    forged = register_folder(server.client, name, folder, claimed, document)
    refused(server.decide("promote", name, version=forged, stage="Production"), "not measured yet: floor")
