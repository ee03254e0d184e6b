"""Every door of the registry to Production, tried against a real guarded server: none lets in what was not gated."""

import contextlib
import json
import re
import sqlite3
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from guarded_server import Answer, GuardedServer, Live
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException
from small_versions import register_folder

from records import audit

UNITS = ("/api/2.0/mlflow", "/ajax-api/2.0/mlflow")


@dataclass
class Scene:
    """A model whose good version is live, and a weak one that no gate lets in."""

    server: GuardedServer
    name: str
    good: str
    weak: str
    before: Live

    def unchanged(self) -> None:
        assert self.server.live(self.name) == self.before
        assert self.before.stage == [self.good] and self.before.alias == self.good and self.before.files

    def move(self, unit: str, **more: object) -> Answer:
        body = {"name": self.name, "version": self.weak, "stage": "Production", **more}
        return self.server.send("POST", f"{unit}/model-versions/transition-stage", body)

    def alias(self, unit: str, alias: str, method: str = "POST") -> Answer:
        body = {"name": self.name, "alias": alias, "version": self.weak}
        if method == "DELETE":
            del body["version"]
        return self.server.send(method, f"{unit}/registered-models/alias", body)


@pytest.fixture
def scene(gate_server: GuardedServer, request: pytest.FixtureRequest) -> Iterator[Scene]:
    name = re.sub(r"\W+", "-", request.node.name)
    good, weak = gate_server.promoted(name), gate_server.version(name, 0.5)
    made = Scene(gate_server, name, good, weak, gate_server.live(name))
    yield made
    made.unchanged()
    assert audit.verify(gate_server.records) is None


def refused(answer: Answer, told: str = "floor: fail: mean Dice 0.5000 < 0.7000") -> None:
    """A refusal in MLflow's shape that says why."""
    assert answer.status in (400, 403), answer
    assert told in answer.message, answer


def resolved(server: GuardedServer, name: str) -> str:
    """The version to which MLflow's client resolves `models:/name/Production`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (live,) = server.client.get_latest_versions(name, ["Production"])
    return str(live.version)


@pytest.mark.parametrize("unit", UNITS)
def test_no_transition_lets_a_weak_version_in(scene: Scene, unit: str) -> None:
    for more in (
        {},
        {"stage": "production"},
        {"stage": "PRODUCTION"},
        {"version": f"0{scene.weak}"},
        {"version": f" {scene.weak} "},
        {"version": int(scene.weak)},
        {"archive_existing_versions": True},
        {"archive_existing_versions": "true"},
        {"archiveExistingVersions": True},
        {"comment": "it is good", "override": True},
    ):
        answer = scene.move(unit, **more)
        assert answer.status == 400, (more, answer)
        assert "floor: fail" in answer.message or "Invalid" in answer.message or "must be" in answer.message, answer
    refused(scene.move(unit))
    body = json.dumps({"name": scene.name, "version": scene.weak, "stage": "Production"})
    path = f"{unit}/model-versions/transition-stage"
    refused(scene.server.send("POST", path, body))  # encoded twice, as clients of long ago did
    refused(scene.server.send("POST", path, raw=body.encode(), headers={"Content-Type": "application/json; x=y"}))
    assert scene.server.send("post", path, raw=body.encode()).status == 400
    for other in (f"{path}/", path.replace("/mlflow/", "//mlflow/"), path.replace("2.0/", "2.0/./"), f"/x/..{path}"):
        assert scene.server.send("POST", other, raw=body.encode()).status >= 300
    for method in ("PUT", "PATCH", "GET"):
        headers = {"X-HTTP-Method-Override": "POST"}
        assert scene.server.send(method, path, raw=body.encode(), headers=headers).status in (404, 405)


@pytest.mark.parametrize("unit", UNITS)
def test_no_alias_lets_a_weak_version_in_or_takes_the_good_one_out(scene: Scene, unit: str) -> None:
    for alias in ("champion", "Champion", "CHAMPION"):
        refused(scene.alias(unit, alias))
        refused(scene.alias(unit, alias, "DELETE"), "follows the stage")
    assert scene.alias(unit, "weekend").status == 200
    assert scene.alias(unit, "Production").status == 200
    # An alias that is called like a stage is not the stage.
    assert resolved(scene.server, scene.name) == scene.good
    assert scene.alias(unit, "weekend", "DELETE").status == 200


@pytest.mark.parametrize("unit", UNITS)
def test_no_alias_of_staging_lets_a_damaged_version_in_or_takes_the_tested_one_out(scene: Scene, unit: str) -> None:
    server, name = scene.server, scene.name
    assert scene.alias(unit, "challenger").status == 200
    tested, damaged = scene.weak, server.version(name)
    file = server.folder / "artifacts" / server.place(name, damaged) / "artifacts" / "version" / "model.onnx"
    file.write_bytes(b"other weights")
    scene.weak = damaged
    for alias in ("challenger", "Challenger", "CHALLENGER"):
        refused(scene.alias(unit, alias), "intact: fail")
        refused(scene.alias(unit, alias, "DELETE"), "follows the stage")
    assert server.client.get_model_version_by_alias(name, "challenger").version == tested
    assert server.client.get_model_version(name, tested).current_stage == "Staging"
    assert server.client.get_model_version(name, damaged).current_stage == "None"


def test_a_prompt_has_what_aliases_it_likes_and_is_no_way_in_for_a_model(gate_server: GuardedServer) -> None:
    server, name = gate_server, "a-prompt"
    client = server.client
    prompts = [client.register_prompt(name, "{{x}}").version for _ in range(2)]
    for version in prompts:
        for alias in ("champion", "challenger"):
            client.set_prompt_alias(name, alias, version)
            assert client.get_prompt_version_by_alias(name, alias).version == version
    client.delete_prompt_alias(name, "challenger")
    # A model's files under a prompt's name are a model's.
    model = server.version("not a prompt", 0.5)
    source = client.get_model_version("not a prompt", model).source
    body = {"name": name, "source": source, "model_id": source.removeprefix("models:/")}
    answer = server.send("POST", f"{UNITS[0]}/model-versions/create", body)
    assert answer.status == 200, answer
    version = json.loads(answer.text)["model_version"]["version"]
    alias = {"name": name, "alias": "champion", "version": version}
    refused(server.send("POST", f"{UNITS[0]}/registered-models/alias", alias))
    assert client.get_prompt_version_by_alias(name, "champion").version == prompts[-1]


def test_the_python_client_is_told_which_gate_and_what_to_run(scene: Scene) -> None:
    client = scene.server.client
    for attempt in (
        lambda: client.transition_model_version_stage(scene.name, scene.weak, "Production"),
        lambda: client.transition_model_version_stage(scene.name, scene.weak, "Production", True),
        lambda: client.set_registered_model_alias(scene.name, "champion", scene.weak),
    ):
        with warnings.catch_warnings(), pytest.raises(MlflowException, match=r"(?s)floor: fail.*what to do: train"):
            warnings.simplefilter("ignore")
            attempt()


def test_what_nobody_measured_stays_out_and_is_told_what_to_run(scene: Scene) -> None:
    version = scene.server.version(scene.name, 0.95, measured=False)
    command = f"python -m registry check {scene.name} {version} --stage Production"
    refused(scene.move(UNITS[0], version=version), command)


def test_tags_of_gates_are_written_by_nobody_and_prove_nothing(scene: Scene) -> None:
    server, where = scene.server, {"name": scene.name, "version": scene.weak}
    told = "is written by this server alone"
    for key in ("lifecycle.Production", "Lifecycle.Production", "LIFECYCLE.approved"):
        tag = {"key": key, "value": "allowed"}
        for unit in UNITS:
            refused(server.send("POST", f"{unit}/model-versions/set-tag", {**where, **tag}), told)
            refused(server.send("DELETE", f"{unit}/model-versions/delete-tag", {**where, "key": key}), told)
            refused(server.send("POST", f"{unit}/registered-models/set-tag", {"name": scene.name, **tag}), told)
            refused(
                server.send("DELETE", f"{unit}/registered-models/delete-tag", {"name": scene.name, "key": key}), told
            )
            source = server.client.get_model_version(scene.name, scene.weak).source
            made = {"name": scene.name, "source": source, "model_id": source.removeprefix("models:/"), "tags": [tag]}
            refused(server.send("POST", f"{unit}/model-versions/create", made), told)
            refused(server.send("POST", f"{unit}/registered-models/create", {"name": f"x{key}", "tags": [tag]}), told)
    # Any other tag is free, and forges nothing.
    good = server.client.get_model_version(scene.name, scene.good).tags
    for key, value in {**good, "approved_by": "boss", "gates": "pass"}.items():
        if not key.startswith("lifecycle."):
            server.client.set_model_version_tag(scene.name, scene.weak, key, value)
    refused(scene.move(UNITS[0]))


def test_a_live_model_is_not_hidden_by_calling_it_a_prompt(scene: Scene) -> None:
    # MLflow's clients say of a model with this tag that there is none.
    tag = {"name": scene.name, "key": "mlflow.prompt.is_prompt", "value": "true"}
    for unit in UNITS:
        for kind, version in (("registered-models", {}), ("model-versions", {"version": scene.good})):
            refused(scene.server.send("POST", f"{unit}/{kind}/set-tag", {**tag, **version}), "stays")
            refused(scene.server.send("DELETE", f"{unit}/{kind}/delete-tag", {**tag, **version}), "stays")
    assert resolved(scene.server, scene.name) == scene.good
    assert scene.server.client.get_model_version_by_alias(scene.name, "champion").version == scene.good


@pytest.mark.parametrize("unit", UNITS)
def test_what_is_live_is_neither_deleted_nor_renamed_nor_made_anew(scene: Scene, unit: str) -> None:
    server, other = scene.server, f"{scene.name} other"
    server.version(other, 0.5)
    told = "is in Production and cannot be"
    for version in (scene.good, f"0{scene.good}"):
        body = {"name": scene.name, "version": version}
        refused(server.send("DELETE", f"{unit}/model-versions/delete", body), told)
    refused(server.send("DELETE", f"{unit}/registered-models/delete", {"name": scene.name}), told)
    away = {"name": scene.name, "new_name": f"{scene.name} away"}
    refused(server.send("POST", f"{unit}/registered-models/rename", away), told)
    into = server.send("POST", f"{unit}/registered-models/rename", {"name": other, "new_name": scene.name})
    assert into.status == 400, into
    assert server.send("POST", f"{unit}/registered-models/create", {"name": scene.name}).status == 400
    scene.unchanged()


def test_a_model_made_anew_under_its_old_name_inherits_nothing(gate_server: GuardedServer) -> None:
    server, name = gate_server, "made anew"
    first, second = server.promoted(name, 0.90), server.promoted(name, 0.91)
    assert server.decide("archive", name, version=second).status == 200
    assert server.send("DELETE", f"{UNITS[0]}/registered-models/delete", {"name": name}).status == 200
    weak = server.version(name, 0.5)
    assert weak == first
    for attempt in (
        server.decide("rollback", name),
        server.decide("rollback", name, version=weak),
        server.decide("promote", name, version=weak, stage="Production"),
        server.send(
            "POST",
            f"{UNITS[0]}/model-versions/transition-stage",
            {"name": name, "version": weak, "stage": "Production"},
        ),
    ):
        assert attempt.status == 400, attempt
        assert server.live(name) == Live([], None, {})
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
    for attempt in (
        server.decide("rollback", name),
        server.decide("rollback", name, version=weak),
        server.decide("promote", name, version=weak, stage="Production"),
        server.send(
            "POST", f"{UNITS[1]}/registered-models/alias", {"name": name, "alias": "champion", "version": weak}
        ),
    ):
        assert attempt.status == 400, attempt
        assert server.live(name) == Live([], None, {})
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


def test_the_same_bytes_under_another_name_ask_the_gates_again(scene: Scene) -> None:
    server, other = scene.server, f"{scene.name} copied"
    server.client.create_registered_model(other)
    for version, status in ((scene.weak, 400), (scene.good, 200)):
        copy = server.client.copy_model_version(f"models:/{scene.name}/{version}", other)
        answer = server.decide("promote", other, version=copy.version, stage="Production")
        assert answer.status == status, answer
    assert server.live(other).files == scene.before.files


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


def test_nothing_of_a_verdict_can_be_sent(scene: Scene) -> None:
    server = scene.server
    body = {"version": scene.weak, "stage": "Production"}
    for verb in ("evidence", "verdict", "measured", "audit", "show", "policy", "server", "status", "measuring"):
        assert server.decide(verb, scene.name, **body).status in (404, 405), verb
    for forged in (
        {"judged": []},
        {"digest": "sha256:0"},
        {"actor": "boss", "authenticated": True},
        {"force": True},
        {"live": None},
        {"policy": {"format": 1, "stages": {}}},
    ):
        refused(server.decide("promote", scene.name, **body, **forged), "Extra inputs are not permitted")
    refused(server.decide("promote", scene.name, **body, override=True, reason="I am the boss"), "asks for passwords")
    refused(server.decide("approve", scene.name, **body, reason="I am the boss"), "asks for passwords")
    headers = {"X-Resunet-Actor": "boss", "Authorization": "Basic Ym9zczpib3Nz", "X-Forwarded-User": "boss"}
    asked = json.dumps({"name": scene.name, **body, "override": True, "reason": "boss"}).encode()
    refused(server.send("POST", "/api/lifecycle/promote", raw=asked, headers=headers), "asks for passwords")
    for wrong in (b"", b"[]", b"null", b'"x"', b"{", b'{"name": 7}', json.dumps({"name": scene.name}).encode()):
        answer = server.send("POST", "/api/lifecycle/promote", raw=wrong)
        assert answer.status == 400 and "Traceback" not in answer.text, answer
    assert {row[2] for row in server.rows(scene.name)} == {"unknown", "boss"}


def test_who_asks_is_written_down_as_they_say_whatever_alphabet_they_use(gate_server: GuardedServer) -> None:
    name = "claimed names"
    version = gate_server.version(name)
    done = gate_server.command("promote", name, version, "Production", "--actor", "Žofie\x1b[31m\nłuk")
    assert done.returncode == 0, done.stderr
    assert gate_server.rows(name) == [("promote", version, "Žofie[31młuk")]


def test_graphql_changes_nothing(scene: Scene) -> None:
    mutations = json.loads(
        scene.server.send("POST", "/graphql", {"query": "{__schema{mutationType{fields{name}}}}"}).text
    )
    fields = {field["name"] for field in mutations["data"]["__schema"]["mutationType"]["fields"]}
    assert fields == {"mlflowSearchDatasets", "mlflowSearchRuns", "testMutation"}, "another one: can it change a stage?"
    query = (
        f'mutation {{ mlflowTransitionModelVersionStage(name: "{scene.name}", version: "{scene.weak}") {{ name }} }}'
    )
    answer = json.loads(scene.server.send("POST", "/graphql", {"query": query}).text)
    assert answer["errors"] and not answer["data"]


def test_nobodys_code_runs_beside_the_gates(scene: Scene) -> None:
    server, unit = scene.server, "/ajax-api/3.0"
    told = "runs nobody's code beside them"
    for method, path in (
        ("POST", "/jobs/"),
        ("POST", "/jobs"),
        ("POST", "/mlflow/scorers/register"),
        ("POST", "/mlflow/scorer/invoke"),
        ("POST", "/mlflow/genai/evaluate/invoke"),
        ("POST", "/mlflow/prompt-optimization/jobs"),
        ("POST", "/mlflow/assistant/message"),
        ("PUT", "/mlflow/assistant/config"),
    ):
        refused(server.send(method, unit + path, {"job_name": "invoke_scorer", "params": {}}), told)
        refused(server.send(method, f"/api/3.0{path}", {}), told)


def test_a_plain_click_on_a_good_version_does_what_the_command_does(gate_server: GuardedServer) -> None:
    server, name = gate_server, "plain click"
    old, new, newest = server.promoted(name, 0.90), server.version(name, 0.91), server.version(name, 0.92)
    body = {"name": name, "version": new, "stage": "production", "archive_existing_versions": False}
    checked = json.loads(server.decide("check", name, version=new, stage="Production").text)["judgement"]
    assert [one["action"] for one in checked["judged"]] == ["allow", "allow"]
    answer = server.send(
        "POST",
        f"{UNITS[1]}/model-versions/transition-stage",
        raw=json.dumps(body).encode(),
        headers={"X-Resunet-Actor": "ada"},
    )
    assert answer.status == 200, answer
    moved = json.loads(answer.text)["model_version"]
    assert (moved["version"], moved["current_stage"], moved["aliases"]) == (new, "Production", ["champion"])
    stages = {one.version: one.current_stage for one in server.client.search_model_versions(f"name='{name}'")}
    assert stages == {old: "Archived", new: "Production", newest: "None"}
    assert server.rows(name)[1:] == [("displace", old, "ada"), ("promote", new, "ada")]
    server.client.set_registered_model_alias(name, "champion", newest)
    assert (server.live(name).stage, server.live(name).alias) == ([newest], newest)
    assert server.client.get_model_version(name, new).current_stage == "Archived"
    assert server.rows(name)[3:] == [("displace", new, "unknown"), ("promote", newest, "unknown")]
    assert json.loads(server.decide("rollback", name).text)["version"] == new
    assert server.live(name).alias == new


def test_who_loads_by_stage_or_by_alias_gets_the_gated_bytes(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", scene.server.url)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", scene.server.url)
    refused(scene.move(UNITS[0]))
    for number, uri in enumerate((f"models:/{scene.name}/Production", f"models:/{scene.name}@champion")):
        root = Path(download_artifacts(uri, dst_path=str(tmp_path / str(number))))
        assert f"model_version: '{scene.good}'" in (root / "registered_model_meta").read_text()
        served = (root / "artifacts" / "version" / "model.onnx").read_bytes()
        kept = scene.server.folder / "artifacts" / scene.server.place(scene.name, scene.good)
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
