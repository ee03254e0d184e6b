"""The gates below another server, in several workers, on PostgreSQL, and a server that cannot have them."""

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from guarded_server import GuardedServer, guarded_server
from needed import needed

from pipelines.servers import PLAIN, ServerError
from records import audit

MOVES = "/api/2.0/mlflow/model-versions/transition-stage"
ALIAS = "/ajax-api/2.0/mlflow/registered-models/alias"


def refused(server: GuardedServer, path: str, told: str, method: str = "POST", **body: object) -> None:
    answer = server.send(method, path, body)
    assert answer.status == 400 and told in answer.message, answer


def test_below_a_plain_server_the_store_refuses_too(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'mlflow.db'}"
    more = ("--registry-store-uri", f"gated+{database}", "--backend-store-uri", database)
    with guarded_server(tmp_path, app=PLAIN, more=more) as server:
        name = "below"
        assert server.send("GET", "/api/lifecycle/server").status == 404
        good, weak = server.version(name), server.version(name, 0.5)
        refused(server, MOVES, "floor: fail", name=name, version=weak, stage="production")
        refused(server, ALIAS, "floor: fail", name=name, version=weak, alias="Champion")
        assert server.send("POST", MOVES, {"name": name, "version": good, "stage": "Production"}).status == 200
        assert (server.live(name).stage, server.live(name).alias) == ([good], good)
        refused(server, ALIAS, "follows the stage", "DELETE", name=name, alias="champion")
        unit = "/api/2.0/mlflow"
        refused(server, f"{unit}/model-versions/delete", "cannot be deleted", "DELETE", name=name, version=good)
        refused(server, f"{unit}/registered-models/delete", "cannot be deleted", "DELETE", name=name)
        refused(server, f"{unit}/registered-models/rename", "cannot be renamed", name=name, new_name="away")
        told = "written by this server alone"
        tag = {"key": "lifecycle.Production", "value": "allowed"}
        refused(server, f"{unit}/model-versions/set-tag", told, name=name, version=weak, **tag)
        assert (server.live(name).stage, server.live(name).alias) == ([good], good)
        decided = [("refuse", weak), ("refuse", weak), ("promote", good), *[("refuse", good)] * 4]
        assert [row[:2] for row in server.rows(name)] == decided


def stages(server: GuardedServer, name: str) -> dict[str, str]:
    found = server.client.search_model_versions(f"name='{name}'")
    return {one.version: one.current_stage for one in found}


def test_two_workers_on_one_postgresql_decide_one_after_the_other(postgres_url: str, tmp_path: Path) -> None:
    # MLflow's tables and the platform's in one database.
    more = ("--workers", "2", "--backend-store-uri", postgres_url)
    with guarded_server(tmp_path, environment={"RESUNET_DATABASE": postgres_url}, more=more) as server:
        name = "on PostgreSQL"
        versions = [server.version(name, 0.80 + number / 100) for number in range(6)]
        weak = server.version(name, 0.5)
        refused(server, MOVES, "floor: fail", name=name, version=weak, stage="Production")

        def promote(version: str) -> int:
            return server.send("POST", MOVES, {"name": name, "version": version, "stage": "Production"}).status

        with ThreadPoolExecutor(len(versions)) as pool:
            answers = list(pool.map(promote, versions))
        assert answers == [200] * len(versions)
        counted = Counter(stages(server, name).values())
        assert counted == {"Production": 1, "Archived": len(versions) - 1, "None": 1}
        (live,) = (version for version, stage in stages(server, name).items() if stage == "Production")
        assert server.client.get_model_version_by_alias(name, "champion").version == live
        decisions = Counter(row[0] for row in server.rows(name))
        assert decisions == {"refuse": 1, "promote": len(versions), "displace": len(versions) - 1}
        assert audit.verify(server.records) is None
        place = server.place(name, live)
        put = server.send("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{place}/MLmodel", raw=b"x")
        assert put.status == 400 and "which is registered" in put.message
        status = json.loads(server.send("GET", "/api/lifecycle/status?name=on%20PostgreSQL").text)
        assert status["mismatches"] == []
        assert "Traceback" not in server.log()


SECRET = {"MLFLOW_FLASK_SERVER_SECRET_KEY": "a long random text"}


def no_secret(folder: Path) -> tuple[str, dict[str, str], str]:
    return "lifecycle-auth", {"MLFLOW_AUTH_ADMIN_PASSWORD": "a-password-for-tests"}, "MLFLOW_FLASK_SERVER_SECRET_KEY"


def no_password(folder: Path) -> tuple[str, dict[str, str], str]:
    (folder / "auth.ini").write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/users.db\nadmin_username = admin\n"
    )
    return (
        "lifecycle-auth",
        {**SECRET, "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini")},
        "MLFLOW_AUTH_ADMIN_PASSWORD",
    )


def wrong_policy(folder: Path) -> tuple[str, dict[str, str], str]:
    (folder / "wrong.yaml").write_text("format: 1\nstages:\n  Production: {florr: }\n")
    return "lifecycle", {"RESUNET_POLICY": str(folder / "wrong.yaml")}, "wrong.yaml, line 3: there is no gate 'florr'"


@pytest.mark.parametrize(("what", "workers"), [(no_secret, 1), (no_password, 2), (wrong_policy, 1)])
def test_a_server_that_lacks_something_says_so_and_ends_instead_of_starting_again_for_ever(
    tmp_path: Path, what: Callable[[Path], tuple[str, dict[str, str], str]], workers: int
) -> None:
    if what is not wrong_policy:
        needed("flask_wtf", "no passwords (the extra `auth`)")
    app, environment, told = what(tmp_path)
    with (
        pytest.raises(ServerError, match="did not start"),
        guarded_server(tmp_path, app=app, environment=environment, more=("--workers", str(workers))),
    ):
        pass
    log = (tmp_path / "server.log").read_text()
    sentences = [line for line in log.splitlines() if line.startswith("The server does not start: ")]
    # A busy machine may have begun to start each worker once more.
    assert 1 <= len(sentences) <= 2 * workers, log
    assert all(told in sentence for sentence in sentences)
    assert "Traceback" not in log


def test_another_kind_of_server_under_the_gates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ServerError), guarded_server(tmp_path, more=("--gunicorn-opts", "--timeout 60")):
        pass
    assert "the gates need MLflow's default server" in (tmp_path / "server.log").read_text()
