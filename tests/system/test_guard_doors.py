"""Every door of the registry to Production, tried against a real guarded server: none lets in what was not gated."""

import json
import warnings

import pytest
from guard_scenes import Doors, refused, resolved
from guarded_server import GuardedServer
from mlflow.exceptions import MlflowException

UNITS = ("/api/2.0/mlflow", "/ajax-api/2.0/mlflow")


@pytest.mark.parametrize("unit", UNITS)
def test_no_transition_lets_a_weak_version_in(doors: Doors, unit: str) -> None:
    for more in (
        {},
        {"stage": "production"},
        {"stage": "PRODUCTION"},
        {"version": f"0{doors.weak}"},
        {"version": f" {doors.weak} "},
        {"version": int(doors.weak)},
        {"archive_existing_versions": True},
        {"archive_existing_versions": "true"},
        {"archiveExistingVersions": True},
        {"comment": "it is good", "override": True},
    ):
        answer = doors.move(unit, **more)
        assert answer.status == 400, (more, answer)
        assert "floor: fail" in answer.message or "Invalid" in answer.message or "must be" in answer.message, answer
    refused(doors.move(unit))
    body = json.dumps({"name": doors.name, "version": doors.weak, "stage": "Production"})
    path = f"{unit}/model-versions/transition-stage"
    refused(doors.server.send("POST", path, body))  # encoded twice, as clients of long ago did
    refused(doors.server.send("POST", path, raw=body.encode(), headers={"Content-Type": "application/json; x=y"}))
    assert doors.server.send("post", path, raw=body.encode()).status == 400
    for other in (f"{path}/", path.replace("/mlflow/", "//mlflow/"), path.replace("2.0/", "2.0/./"), f"/x/..{path}"):
        assert doors.server.send("POST", other, raw=body.encode()).status >= 300
    for method in ("PUT", "PATCH", "GET"):
        headers = {"X-HTTP-Method-Override": "POST"}
        assert doors.server.send(method, path, raw=body.encode(), headers=headers).status in (404, 405)


@pytest.mark.parametrize("unit", UNITS)
def test_no_alias_lets_a_weak_version_in_or_takes_the_good_one_out(doors: Doors, unit: str) -> None:
    for alias in ("champion", "Champion", "CHAMPION"):
        refused(doors.alias(unit, alias))
        refused(doors.alias(unit, alias, "DELETE"), "follows the stage")
    assert doors.alias(unit, "weekend").status == 200
    assert doors.alias(unit, "Production").status == 200
    # An alias that is called like a stage is not the stage.
    assert resolved(doors.server, doors.name) == doors.good
    assert doors.alias(unit, "weekend", "DELETE").status == 200


@pytest.mark.parametrize("unit", UNITS)
def test_no_alias_of_staging_lets_a_damaged_version_in_or_takes_the_tested_one_out(doors: Doors, unit: str) -> None:
    server, name = doors.server, doors.name
    assert doors.alias(unit, "challenger").status == 200
    tested, damaged = doors.weak, server.version(name)
    file = server.folder / "artifacts" / server.place(name, damaged) / "artifacts" / "version" / "model.onnx"
    file.write_bytes(b"other weights")
    doors.weak = damaged
    for alias in ("challenger", "Challenger", "CHALLENGER"):
        refused(doors.alias(unit, alias), "intact: fail")
        refused(doors.alias(unit, alias, "DELETE"), "follows the stage")
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


def test_the_python_client_is_told_which_gate_and_what_to_run(doors: Doors) -> None:
    client = doors.server.client
    for attempt in (
        lambda: client.transition_model_version_stage(doors.name, doors.weak, "Production"),
        lambda: client.transition_model_version_stage(doors.name, doors.weak, "Production", True),
        lambda: client.set_registered_model_alias(doors.name, "champion", doors.weak),
    ):
        with warnings.catch_warnings(), pytest.raises(MlflowException, match=r"(?s)floor: fail.*what to do: train"):
            warnings.simplefilter("ignore")
            attempt()


def test_what_nobody_measured_stays_out_and_is_told_what_to_run(doors: Doors) -> None:
    version = doors.server.version(doors.name, 0.95, measured=False)
    command = f"python -m registry check {doors.name} {version} --stage Production"
    refused(doors.move(UNITS[0], version=version), command)


def test_tags_of_gates_are_written_by_nobody_and_prove_nothing(doors: Doors) -> None:
    server, where = doors.server, {"name": doors.name, "version": doors.weak}
    told = "is written by this server alone"
    for key in ("lifecycle.Production", "Lifecycle.Production", "LIFECYCLE.approved"):
        tag = {"key": key, "value": "allowed"}
        for unit in UNITS:
            refused(server.send("POST", f"{unit}/model-versions/set-tag", {**where, **tag}), told)
            refused(server.send("DELETE", f"{unit}/model-versions/delete-tag", {**where, "key": key}), told)
            refused(server.send("POST", f"{unit}/registered-models/set-tag", {"name": doors.name, **tag}), told)
            refused(
                server.send("DELETE", f"{unit}/registered-models/delete-tag", {"name": doors.name, "key": key}), told
            )
            source = server.client.get_model_version(doors.name, doors.weak).source
            made = {"name": doors.name, "source": source, "model_id": source.removeprefix("models:/"), "tags": [tag]}
            refused(server.send("POST", f"{unit}/model-versions/create", made), told)
            refused(server.send("POST", f"{unit}/registered-models/create", {"name": f"x{key}", "tags": [tag]}), told)
    # Any other tag is free, and forges nothing.
    good = server.client.get_model_version(doors.name, doors.good).tags
    for key, value in {**good, "approved_by": "boss", "gates": "pass"}.items():
        if not key.startswith("lifecycle."):
            server.client.set_model_version_tag(doors.name, doors.weak, key, value)
    refused(doors.move(UNITS[0]))


def test_a_live_model_is_not_hidden_by_calling_it_a_prompt(doors: Doors) -> None:
    # MLflow's clients say of a model with this tag that there is none.
    tag = {"name": doors.name, "key": "mlflow.prompt.is_prompt", "value": "true"}
    for unit in UNITS:
        for kind, version in (("registered-models", {}), ("model-versions", {"version": doors.good})):
            refused(doors.server.send("POST", f"{unit}/{kind}/set-tag", {**tag, **version}), "stays")
            refused(doors.server.send("DELETE", f"{unit}/{kind}/delete-tag", {**tag, **version}), "stays")
    assert resolved(doors.server, doors.name) == doors.good
    assert doors.server.client.get_model_version_by_alias(doors.name, "champion").version == doors.good


def test_nothing_of_a_verdict_can_be_sent(doors: Doors) -> None:
    server = doors.server
    body = {"version": doors.weak, "stage": "Production"}
    for verb in ("evidence", "verdict", "measured", "audit", "show", "policy", "server", "status", "measuring"):
        assert server.decide(verb, doors.name, **body).status in (404, 405), verb
    for forged in (
        {"judged": []},
        {"digest": "sha256:0"},
        {"actor": "boss", "authenticated": True},
        {"force": True},
        {"live": None},
        {"policy": {"format": 1, "stages": {}}},
    ):
        refused(server.decide("promote", doors.name, **body, **forged), "Extra inputs are not permitted")
    refused(server.decide("promote", doors.name, **body, override=True, reason="I am the boss"), "asks for passwords")
    refused(server.decide("approve", doors.name, **body, reason="I am the boss"), "asks for passwords")
    headers = {"X-Resunet-Actor": "boss", "Authorization": "Basic Ym9zczpib3Nz", "X-Forwarded-User": "boss"}
    asked = json.dumps({"name": doors.name, **body, "override": True, "reason": "boss"}).encode()
    refused(server.send("POST", "/api/lifecycle/promote", raw=asked, headers=headers), "asks for passwords")
    for wrong in (b"", b"[]", b"null", b'"x"', b"{", b'{"name": 7}', json.dumps({"name": doors.name}).encode()):
        answer = server.send("POST", "/api/lifecycle/promote", raw=wrong)
        assert answer.status == 400 and "Traceback" not in answer.text, answer
    assert {row[2] for row in server.rows(doors.name)} == {"unknown", "boss"}


def test_who_asks_is_written_down_as_they_say_whatever_alphabet_they_use(gate_server: GuardedServer) -> None:
    name = "claimed names"
    version = gate_server.version(name)
    done = gate_server.command("promote", name, version, "Production", "--actor", "Žofie\x1b[31m\nłuk")
    assert done.returncode == 0, done.stderr
    assert gate_server.rows(name) == [("promote", version, "Žofie[31młuk")]


def test_graphql_changes_nothing(doors: Doors) -> None:
    mutations = json.loads(
        doors.server.send("POST", "/graphql", {"query": "{__schema{mutationType{fields{name}}}}"}).text
    )
    fields = {field["name"] for field in mutations["data"]["__schema"]["mutationType"]["fields"]}
    assert fields == {"mlflowSearchDatasets", "mlflowSearchRuns", "testMutation"}, "another one: can it change a stage?"
    query = (
        f'mutation {{ mlflowTransitionModelVersionStage(name: "{doors.name}", version: "{doors.weak}") {{ name }} }}'
    )
    answer = json.loads(doors.server.send("POST", "/graphql", {"query": query}).text)
    assert answer["errors"] and not answer["data"]


def test_nobodys_code_runs_beside_the_gates(doors: Doors) -> None:
    server, unit = doors.server, "/ajax-api/3.0"
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
