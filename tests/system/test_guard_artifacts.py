"""Every door to the bytes of what is live, tried against a real guarded server: they stay what was gated."""

import http.client
import json
from urllib.parse import quote, urlsplit

import pytest
from guard_scenes import REGISTERED, Kept, stays
from guarded_server import Answer, GuardedServer
from mlflow.entities import LoggedModelStatus
from waiting import until

from records.digests import write_digests
from registry.evidence import VERSION_FOLDER

UNITS = ("/api/2.0", "/ajax-api/2.0")


def not_done(answer: Answer) -> None:
    """Refused, sent elsewhere or not understood."""
    assert answer.status >= 300, answer


@pytest.mark.parametrize("unit", UNITS)
def test_no_file_of_a_version_is_written_or_deleted(kept: Kept, unit: str) -> None:
    root = f"{unit}/mlflow-artifacts/artifacts"
    file = f"{kept.place}/{VERSION_FOLDER}/model.onnx"
    for written in (file, f"{kept.place}/new.txt", f"{kept.place}/{VERSION_FOLDER}/a/b/c", kept.place):
        stays(kept.server.send("PUT", f"{root}/{written}", raw=b"other weights"))
    above = [file.rsplit("/", count)[0] for count in range(1, file.count("/") + 1)]
    for deleted in (file, *above, ".", "./", "%2e", "%2E/", "%252e", "./."):
        stays(kept.server.send("DELETE", f"{root}/{deleted}"))
    for path in ("", "/", "/.", "//", "/..", "/%2e%2e", "/%2e%2e/"):
        not_done(kept.server.send("DELETE", f"{root}{path}"))


@pytest.mark.parametrize("unit", UNITS)
def test_no_spelling_of_a_path_is_another_path(kept: Kept, unit: str) -> None:
    root, file = f"{unit}/mlflow-artifacts/artifacts", f"{kept.place}/{VERSION_FOLDER}/model.onnx"
    experiment, rest = file.split("/", 1)
    spellings = [
        f"./{file}",
        f"{experiment}/./{rest}",
        f"{experiment}//{rest}",
        f"{experiment}/%2e/{rest}",
        f"{experiment}/%2E%2F{rest}",
        f"{experiment}%2F{rest}",
        f"{experiment}%252F{rest}",
        quote(quote(quote(file, safe=""), safe=""), safe=""),
        "".join(f"%{ord(letter):02x}" for letter in file),
        f"{file}?path=elsewhere",
        f"{file};x=y",
        f"{file}#x",
        f"{experiment}/../{file}",
        f"{experiment}/%2e%2e/{file}",
        f"x/..%2f{file}",
        f"\\{file}",
        f"file:///{file}",
        f"{file}/",
        f"{file}/.",
        f"{file}%00",
        f"{file}%0a",
    ]
    for spelling in spellings:
        for prefix in (
            root,
            f"/{root}",
            root.replace("/2.0/", "//2.0/"),
            root.replace("mlflow-artifacts/", "mlflow-artifacts//"),
        ):
            for method in ("PUT", "DELETE"):
                kept.server.send(method, f"{prefix}/{spelling}", raw=b"other weights")
                assert kept.server.live(kept.name).files.items() >= kept.before.files.items(), (
                    method,
                    prefix,
                    spelling,
                )
        kept.unchanged()
    for method in ("put", "Put", "PATCH", "POST", "MOVE", "COPY"):
        not_done(kept.server.send(method, f"{root}/{file}", raw=b"x", headers={"X-HTTP-Method-Override": "PUT"}))


@pytest.mark.parametrize("unit", UNITS)
def test_no_upload_in_parts_and_no_signed_address(kept: Kept, unit: str) -> None:
    server, file = kept.server, f"{VERSION_FOLDER}/model.onnx"
    parts = {"upload_id": "1", "parts": [{"part_number": 1, "etag": "x", "url": ""}]}
    for verb in ("create", "complete", "abort"):
        for folder, path in (
            (f"{kept.place}/{VERSION_FOLDER}", "model.onnx"),
            (f"{kept.place}/{VERSION_FOLDER}", "/elsewhere/model.onnx"),
            (kept.place, file),
            (kept.place.rsplit("/", 1)[0], f"artifacts/{file}"),
            (f"{kept.place}/%2e/", f"./{file}"),
        ):
            body = {"path": path, "num_parts": 1, **parts}
            stays(server.send("POST", f"{unit}/mlflow-artifacts/mpu/{verb}/{folder}", body))
            stays(server.send("POST", f"{unit}/mlflow-artifacts/mpu/{verb}/{folder}", json.dumps(body)))
    for key in ("model_id", "modelId"):
        for path in (file, f"./{file}", "%2e/x"):
            body = {key: kept.model_id, "path": path, "expiration": 900}
            stays(server.send("POST", f"{unit}/mlflow/artifacts/presigned-upload-url", body))
    # Nor for a place where there is no version yet.
    model = server.client.create_logged_model(server.client.create_experiment(f"signed {kept.name}"), name="m")
    body = {"model_id": model.model_id, "path": "file"}
    stays(server.send("POST", f"{unit}/mlflow/artifacts/presigned-upload-url", body), "signs no addresses")


@pytest.mark.parametrize(
    "spelling",
    [
        "mlflow-artifacts:{}",
        "mlflow-artifacts:///{}",
        "MLflow-Artifacts:/{}",
        "mlflow-artifacts:/{}?x=y",
        "{artifacts}/{}",
    ],
)
def test_files_are_watched_however_their_place_is_spelt_or_they_are_not_gated(
    gate_server: GuardedServer, spelling: str
) -> None:
    server = gate_server
    server.made += 1
    name, folder = f"spelt {server.made}", f"odd{server.made}"
    location = spelling.replace("{artifacts}", str(server.folder / "artifacts")).replace("{}", folder)
    made = server.client.create_logged_model(server.client.create_experiment(name, location), name="model")
    place = f"{folder}/models/{made.model_id}/artifacts"
    root = server.folder / "artifacts" / place
    root.mkdir(parents=True)
    (root / "MLmodel").write_text("flavors: {}\n")
    write_digests(root)
    server.client.finalize_logged_model(made.model_id, LoggedModelStatus.READY)
    server.client.create_registered_model(name)
    version = server.client.create_model_version(name, f"models:/{made.model_id}", model_id=made.model_id).version
    answer = server.decide("promote", name, version=version, stage="Staging")
    if server.client.get_model_version_download_uri(name, version) != f"mlflow-artifacts:/{place}":
        stays(answer, "outside this server's artifact store")
    else:
        assert answer.status == 200
        stays(server.send("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{place}/MLmodel", raw=b"x"))


def test_an_upload_that_began_before_its_place_was_registered_ends_in_nothing(gate_server: GuardedServer) -> None:
    server, name = gate_server, "slow upload"
    version = server.version(name)
    place = server.place(name, version)
    # Not in the version's own folder while it waits: there it would be a file that is not listed.
    path = f"/api/2.0/mlflow-artifacts/artifacts/{place}/{VERSION_FOLDER}/model.onnx"
    server.client.delete_model_version(name, version)
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=60)
    connection.putrequest("PUT", path)
    connection.putheader("Content-Length", "20")
    connection.endheaders(b"0123456789")
    staged = server.folder / "artifacts" / place / VERSION_FOLDER
    until(lambda: len(list(staged.iterdir())) > 2)
    again = server.client.create_model_version(name, f"models:/{place.split('/')[2]}", model_id=place.split("/")[2])
    connection.send(b"0123456789")
    answer = connection.getresponse()
    told = answer.read().decode()
    connection.close()
    assert (answer.status, REGISTERED in told) == (400, True), told
    until(lambda: len(list(staged.iterdir())) == 2)
    server.client.set_model_version_tag(name, again.version, "version_digest", "")
    assert server.decide("promote", name, version=again.version, stage="Production").status == 200


def test_files_of_what_is_not_registered_come_and_go(gate_server: GuardedServer) -> None:
    server, name = gate_server, "free files"
    version = server.version(name)
    place = server.place(name, version)
    file = f"/api/2.0/mlflow-artifacts/artifacts/{place}/{VERSION_FOLDER}/model.onnx"
    stays(server.send("PUT", file, raw=b"x"))
    server.client.delete_model_version(name, version)
    assert server.send("PUT", file, raw=b"x").status == 200
    assert server.send("DELETE", f"/ajax-api/2.0/mlflow-artifacts/artifacts/{place}").status == 200
    assert not (server.folder / "artifacts" / place).exists()
    # A place that begins with the same letters is another place.
    kept = server.place(name, server.version(name))
    assert server.send("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{kept}2/file", raw=b"x").status == 200
    assert server.send("DELETE", f"/api/2.0/mlflow-artifacts/artifacts/{kept}2").status == 200
