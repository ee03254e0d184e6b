"""The guarded server on top of MLflow's passwords: it knows who asks, and what they may."""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from guarded_server import PASSWORD, Answer, GuardedServer, guarded_server
from needed import needed
from werkzeug.security import generate_password_hash

from records import audit

POLICY = """
format: 1
stages:
  Staging: {intact: }
  Production: {intact: , floor: {dice: 0.7}, approved: }
roles:
  override: [boss]
  approve: [ada, edith, grace, rex]
"""
# MLflow makes this one at its first start; what a user is not given they may not do.
ADMIN = "admin"
SETTINGS = """
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = sqlite:///{folder}/users.db
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""
EDITORS = ("ada", "grace", "edith", "boss")
READER, STRANGER = "rex", "sue"
MOVES = "/api/2.0/mlflow/model-versions/transition-stage"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GuardedServer]:
    needed("flask_wtf", "no passwords (the extra `auth`)")
    folder = tmp_path_factory.mktemp("auth")
    (folder / "auth.ini").write_text(SETTINGS.format(folder=folder))
    environment = {
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini"),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a long random text",
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
    }
    with guarded_server(folder, app="lifecycle-auth", policy=POLICY, environment=environment) as made:
        for user in (*EDITORS, READER, STRANGER):
            body = {"username": user, "password": PASSWORD}
            assert made.send("POST", "/api/2.0/mlflow/users/create", body, user=ADMIN).status == 200
        hash_cheaply(folder / "users.db")
        yield made


def hash_cheaply(users: Path) -> None:
    """MLflow's hashes take a tenth of a second for each request of these tests, on purpose; these take none."""
    with contextlib.closing(sqlite3.connect(users)) as tables, tables:
        hashed = generate_password_hash(PASSWORD, method="pbkdf2:sha256:1")
        assert tables.execute("UPDATE users SET password_hash = ?", (hashed,)).rowcount == len(EDITORS) + 3


@pytest.fixture
def name(server: GuardedServer, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model that four may change and one may read."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    name = str(request.node.originalname)
    server.client.create_registered_model(name)
    for user in (*EDITORS, READER):
        grant = {
            "username": user,
            "resource_type": "registered_model",
            "resource_id": name,
            "permission": "EDIT" if user in EDITORS else "READ",
        }
        given = server.send("POST", "/api/3.0/mlflow/users/permissions/grant", grant, user=ADMIN)
        assert given.status == 200, given
    return name


def production(version: str, **more: object) -> dict[str, object]:
    return {"version": version, "stage": "Production", **more}


def refused(answer: Answer, told: str) -> None:
    assert answer.status == 400 and told in answer.message, answer


def test_four_eyes_are_three_people_and_the_decision_bears_their_names(server: GuardedServer, name: str) -> None:
    version = server.version(name)  # measured by grace
    body = production(version)
    refused(server.decide("promote", name, user="ada", **body), "approved: undecided")
    refused(server.decide("promote", name, user="grace", **body), "approved: fail: grace")
    for user in ("ada", "grace"):  # who asks, and who had it checked
        assert server.decide("approve", name, user=user, **body, reason="fine by me").status == 200
    refused(server.decide("promote", name, user="ada", **body), "approved: undecided")
    refused(server.decide("approve", name, user="boss", **body), "boss has not the role `approve`")
    assert server.decide("approve", name, user="edith", **body, reason="looked at the worst twenty").status == 200
    # The approval is of these bytes: another version asks again.
    other = server.version(name, 0.91)
    refused(server.decide("promote", name, user="ada", **production(other)), "approved: undecided")
    # Not by the command, but by a click.
    moved = server.send("POST", MOVES, {"name": name, **body}, user="ada", headers={"X-Resunet-Actor": "boss"})
    assert moved.status == 200, moved
    assert (server.live(name).stage, server.live(name).alias) == ([version], version)
    rows = audit.history(server.records, name)
    assert [(row.action, row.actor) for row in rows][-1] == ("promote", "ada")
    evidence = rows[-1].gates["verdicts"]["approved"]["evidence"]
    assert "edith" in evidence and "ada" not in evidence
    assert ("approve", version, "edith") in server.rows(name)
    assert audit.verify(server.records) is None


def test_an_override_asks_for_the_role_and_a_written_reason_and_is_loud(server: GuardedServer, name: str) -> None:
    weak = server.version(name, 0.5)
    body = production(weak, override=True)
    refused(server.decide("promote", name, user="ada", **body, reason="please"), "ada has not the role `override`")
    refused(server.decide("promote", name, user="boss", **body), "an override needs a reason")
    refused(server.decide("promote", name, user="boss", **body, reason=" \t"), "an override needs a reason")
    refused(server.decide("promote", name, user="boss", **production(weak, reason="no flag")), "floor: fail")
    assert server.live(name).stage == []
    assert server.decide("promote", name, user="boss", **body, reason="the old one harms").status == 200
    assert server.live(name).alias == weak
    last = audit.history(server.records, name)[-1]
    assert (last.action, last.actor, last.reason) == ("override", "boss", "the old one harms")
    assert last.gates["verdicts"]["floor"]["outcome"] == "fail"


@pytest.mark.parametrize("user", ["", "nobody", "ada:wrong"])
def test_whoever_is_not_known_gets_401_and_learns_nothing(server: GuardedServer, user: str) -> None:
    place = "1/models/m-0/artifacts/MLmodel"
    for method, path in (
        *(
            ("POST", f"/api/lifecycle/{verb}")
            for verb in ("promote", "rollback", "archive", "approve", "mend", "check")
        ),
        *(("GET", f"/api/lifecycle/{verb}") for verb in ("server", "policy", "status?name=x", "audit", "audit/verify")),
        ("GET", "/api/lifecycle/show?name=x&version=1"),
        ("GET", "/api/lifecycle/measured?digest=x"),
        ("GET", "/api/lifecycle/measuring?name=x&version=1"),
        ("POST", MOVES),
        ("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{place}"),
        ("DELETE", "/api/2.0/mlflow-artifacts/artifacts/1"),
        ("POST", "/api/2.0/mlflow/users/create"),
    ):
        answer = server.send(method, path, {"name": "x", "username": "y", "password": PASSWORD}, user=user)
        assert answer.status == 401, (method, path, answer)
        assert "registered" not in answer.text


def test_what_the_passwords_app_allows_holds_for_our_routes(server: GuardedServer, name: str) -> None:
    version = server.version(name)
    body = production(version)
    reads = [f"/api/lifecycle/status?name={name}", f"/api/lifecycle/show?name={name}&version={version}"]
    reads += [f"/api/lifecycle/audit?model_name={name}"]
    for user, status in ((READER, 200), ("ada", 200), (ADMIN, 200), (STRANGER, 403)):
        for path in reads:
            assert server.send("GET", path, user=user).status == status, (user, path)
        assert server.decide("check", name, user=user, **body).status == status, user
    for user in (READER, STRANGER):
        for verb, more in (
            ("promote", body),
            ("promote", {**body, "override": True, "reason": "please"}),
            ("check", {**body, "measure": True}),
            ("approve", body),
            ("archive", {"version": version}),
            ("rollback", {}),
            ("mend", {}),
        ):
            answer = server.decide(verb, name, user=user, **more)
            assert answer.status == 403 and f"{user} may not " in answer.message, (verb, answer)
        answer = server.send("GET", f"/api/lifecycle/measuring?name={name}&version={version}", user=user)
        assert answer.status == 403
        assert server.send("POST", MOVES, {"name": name, **body}, user=user).status == 403
    assert {row[0] for row in server.rows(name)} <= {"refuse"} and server.live(name).stage == []


def test_a_model_of_which_one_may_not_know_is_not_told_apart_from_one_that_is_not(
    server: GuardedServer, name: str
) -> None:
    told = [
        server.send("GET", f"/api/lifecycle/status?name={asked}", user=STRANGER).text.replace(asked, "…")
        for asked in (name, "none")
    ]
    assert told[0] == told[1] and "may not read" in told[0]


def test_who_asks_for_a_model_that_is_not_there_is_told_of_those_that_they_may_see(
    server: GuardedServer, name: str
) -> None:
    gone = f"{name}-gone"
    grant = {"username": READER, "resource_type": "registered_model", "resource_id": gone, "permission": "READ"}
    assert server.send("POST", "/api/3.0/mlflow/users/permissions/grant", grant, user=ADMIN).status == 200
    server.client.create_registered_model(f"{name}-hidden")
    for user, hidden in ((READER, False), (ADMIN, True)):
        told = server.send("GET", f"/api/lifecycle/status?name={gone}", user=user).message
        listed = told.split("there is: ")[1].split(", ")
        assert (name in listed, f"{name}-hidden" in listed) == (True, hidden), told


def test_the_name_is_read_once_and_nowhere_else(server: GuardedServer, name: str) -> None:
    mine = f"{name}-of-mine"
    server.client.create_registered_model(mine)
    grant = {"username": STRANGER, "resource_type": "registered_model", "resource_id": mine, "permission": "MANAGE"}
    assert server.send("POST", "/api/3.0/mlflow/users/permissions/grant", grant, user=ADMIN).status == 200
    version = server.version(name)
    path, theirs = "/api/lifecycle/archive", {"name": name, "version": version}
    for tried in (f"{path}?name={mine}", f"{path}?model_name={mine}", f"{path}#name={mine}"):
        assert server.send("POST", tried, theirs, user=STRANGER).status in (403, 404)
    twice = f'{{"name": "{mine}", "name": "{name}", "version": "{version}"}}'.encode()
    assert server.send("POST", path, raw=twice, user=STRANGER).status == 403
    reads = f"/api/lifecycle/status?name={mine}&name={name}"
    answer = server.send("GET", reads, user=STRANGER)
    assert name not in json.dumps(json.loads(answer.text)["state"]["versions"])


def test_all_decisions_are_listed_for_who_may_read_all_of_them(server: GuardedServer, name: str) -> None:
    server.decide("promote", name, user="ada", **production(server.version(name, 0.5)))
    assert server.send("GET", "/api/lifecycle/audit", user=ADMIN).status == 200
    answer = server.send("GET", "/api/lifecycle/audit", user=STRANGER)
    assert answer.status == 403 and name not in answer.text


def test_nobody_makes_themselves_a_second_person(server: GuardedServer) -> None:
    for path in (
        "/api/2.0/mlflow/users/create",
        "/ajax-api/2.0/mlflow/users/create",
        "/api/2.0/mlflow/users/create-ui",
    ):
        answer = server.send("POST", path, {"username": "edith2", "password": PASSWORD}, user="ada")
        assert answer.status in (400, 403), (path, answer)
    admin = {"username": "ada", "is_admin": True}
    assert server.send("PATCH", "/api/2.0/mlflow/users/update-admin", admin, user="ada").status == 403


def test_the_commands_go_with_the_password_and_are_known_by_it(
    server: GuardedServer, name: str, tmp_path: Path
) -> None:
    version = server.version(name)
    ada = {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": PASSWORD}
    done = server.command("promote", name, version, "Staging", "--actor", "boss", environment=ada)
    assert done.returncode == 0, done.stderr
    assert server.rows(name) == [("promote", version, "ada")]
    wrong = {**ada, "MLFLOW_TRACKING_PASSWORD": "wrong"}
    refused = server.command("archive", name, version, environment=wrong)
    assert (refused.returncode, "Traceback" in refused.stderr, "401" in refused.stderr) == (2, False, True)
    may_not = {**ada, "MLFLOW_TRACKING_USERNAME": READER}
    refused = server.command("archive", name, version, environment=may_not)
    assert refused.returncode == 2 and f"{READER} may not update" in refused.stderr, refused.stderr
