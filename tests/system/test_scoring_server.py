"""A real `mlflow models serve`, and the gateway in its place.

Each answers, refuses without repeating what was sent, and logs it all.
"""

import base64
import json
import os
import random
import socket
import sqlite3
import struct
import subprocess
import sys
import uuid
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from mlflow_server import free_port, stop_group

from resunet.images import decode_mask
from resunet.masks import from_rle
from serving.predictor import Predictor

sys.path.insert(0, str(Path(__file__).parents[1] / "code"))

from version_factory import draw, encode, register_version, write_version
from waiting import until

START_SECONDS = 120.0
JSON = "application/json"
READ = (JSON, "text/csv", "application/vnd.apache.parquet")
IMAGE = encode(draw(64, 80))
SECRET = base64.b64encode(IMAGE).decode()


@dataclass(frozen=True)
class Server:
    """A running scoring server, the version that it serves and the database that it logs to."""

    url: str
    version: Path
    database: Path
    output: Path

    def post(self, body: Any, content_type: str | None = JSON) -> requests.Response:
        data = body if isinstance(body, bytes | str) else json.dumps(body)
        headers = {} if content_type is None else {"Content-Type": content_type}
        return requests.post(f"{self.url}/invocations", data=data, headers=headers, timeout=60)


# What serves: MLflow's own server, and the gateway, which takes its place.
SERVERS = {
    "models serve": ["mlflow", "models", "serve", "--env-manager", "local"],
    "the gateway": ["serving", "up"],
}


@pytest.fixture(scope="module", params=list(SERVERS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("a server")  # a path with a space
    write_version(folder / "version")
    tracking_uri, model_uri = register_version(folder / "version", folder / "store")
    port = free_port()
    server = Server(f"http://127.0.0.1:{port}", folder / "version", folder / "log.db", folder / "server.log")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RESUNET_")} | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": tracking_uri,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "RESUNET_INFERENCE_LOG": f"sqlite:///{server.database}",
        "RESUNET_HOME": str(folder / "home"),
        "RESUNET_MAX_IMAGE_MB": "10",
    }
    command = [sys.executable, "-m", *SERVERS[request.param], "-m", model_uri, "-p", str(port)]
    with server.output.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_until_ready(process, server)
        yield server
    finally:
        stop_group(process)


def _wait_until_ready(process: "subprocess.Popen[bytes]", server: Server) -> None:
    def words() -> str:
        return server.output.read_text(errors="replace")[-3000:]

    def answers() -> bool:
        with suppress(requests.RequestException):
            return requests.get(f"{server.url}/ping", timeout=2).status_code == 200
        return False

    until(lambda: process.poll() is not None or answers(), words, START_SECONDS, every=0.1)
    assert process.poll() is None, words()


def split(*images: Any, **columns: list[Any]) -> dict[str, Any]:
    rows = [list(row) for row in zip(images, *columns.values(), strict=True)]
    return {"dataframe_split": {"columns": ["image", *columns], "data": rows}}


def test_both_forms_give_the_predictor_s_mask(server: Server) -> None:
    predictor = Predictor.load(server.version)
    images = [draw(64, 80), draw(300, 280, seed=4)]  # the second is tiled
    texts = [base64.b64encode(encode(image)).decode() for image in images]
    records = {"dataframe_records": [{"image": text} for text in texts]}
    answers = [server.post(body).json()["predictions"] for body in (split(*texts), records)]
    for rows in answers:
        for row, image in zip(rows, images, strict=True):
            expected = predictor.predict(image)
            assert "\n" not in row["mask"]
            assert (decode_mask(base64.b64decode(row["mask"], validate=True)) == expected.mask).all()
            assert (row["height"], row["width"]) == image.shape[:2]
            assert row["foreground_fraction"] == pytest.approx(expected.foreground_fractions[0])
            assert row["confidence"] == pytest.approx(expected.confidence, abs=1e-3)
            assert row["model_version"] == "1"
    assert len({row["request_id"] for rows in answers for row in rows}) == 4


def test_parameters_and_null_columns_reach_the_model(server: Server) -> None:
    body = split(SECRET, SECRET, request_id=["mine-" + uuid.uuid4().hex, None], slice=[None, "fluorescence"])
    answer = server.post(body | {"params": {"threshold": 0.9, "mask_format": "rle"}}).json()["predictions"]
    expected = Predictor.load(server.version).predict(draw(64, 80), 0.9)
    assert (from_rle(answer[0]["mask"]) == (expected.mask > 0)).all()
    assert answer[0]["request_id"] == body["dataframe_split"]["data"][0][1]
    assert len(answer[1]["request_id"]) == 32


# One above `RESUNET_MAX_ROWS`.
TOO_MANY = split(*[SECRET] * 257)


def _hostile_images() -> Iterator[bytes]:
    """Files that decoders work on before they look at the size, or whose missing part they make up."""
    bitmap = struct.pack("<IiiHHIIiiII", 40, 4000, 8000, 1, 32, 0, 0, 0, 0, 0, 0) + bytes(1 << 20)
    icon = struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(bitmap), 22)
    yield icon + bitmap
    count = 500_000
    entries = {256: (3, 1, 32), 257: (3, 1, 32), 258: (3, 1, 8), 262: (3, 1, 1)}
    entries |= {273: (4, count, 8), 278: (3, 1, 32), 279: (4, count, 8)}
    directory = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(entries.items()))
    yield b"II*\0" + struct.pack("<I", 8 + 4 * count) + bytes(4 * count) + struct.pack("<H", 7) + directory + bytes(4)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for kind in ("PNG", "JPEG"):
        data = encode(noise, kind)
        if kind == "PNG":
            start, end = data.index(b"IDAT") - 4, data.index(b"IEND") - 4
            pixels = zlib.decompress(data[start + 8 : end - 4])
            body = b"IDAT" + zlib.compress(pixels[: len(pixels) // 2])
            yield (
                data[:start]
                + struct.pack(">I", len(body) - 4)
                + body
                + struct.pack(">I", zlib.crc32(body))
                + data[end:]
            )
        else:
            start = data.index(b"\xff\xda") + 14
            yield data[: start + (len(data) - start) // 2] + b"\xff\xd9"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (split(SECRET, None), "row 1: image is missing"),
        (split(SECRET, SECRET, 7), "row 2: image must be base64 text"),
        (split(SECRET, SECRET[:-1]), "row 1: image is not valid base64"),
        (split(SECRET, SECRET[:400]), "truncated"),
        *((split(SECRET, base64.b64encode(image).decode()), "row 1: ") for image in _hostile_images()),
        (split(SECRET, "bm90IGFuIGltYWdl"), "row 1: "),
        (split(SECRET, SECRET, request_id=["a", "a"]), "row 1: request_id is the same as in row 0"),
        (split(SECRET) | {"params": {"threshold": 1.5}}, "threshold must be a number between 0 and 1"),
        (split(SECRET) | {"params": {"threshold": SECRET}}, "threshold must be a number between 0 and 1"),
        ({"dataframe_split": {"columns": ["picture"], "data": [[SECRET]]}}, "the column image is missing"),
        ({"inputs": [{"image": SECRET}]}, "row 0: image arrived as base64 text"),
        ({"inputs": {"image": [SECRET]}}, "row 0: image arrived as base64 text"),
        ({"instances": [{"image": SECRET}]}, "row 0: image arrived as base64 text"),
        (split(base64.b64encode(SECRET.encode()).decode()), "row 0: image arrived as base64 text"),
        *(
            (split(f"data:image/{kind};base64,{SECRET}"), "row 0: image begins with data:…;base64,")
            for kind in ("png", "jpeg")
        ),
    ],
)
def test_a_refusal_names_the_row_and_the_reason(server: Server, body: Any, message: str) -> None:
    response = server.post(body)
    assert response.status_code == 400
    assert message in response.json()["message"]


def _handwritten() -> Iterator[tuple[Any, str | None]]:
    """Bodies that each break a rule of the protocol, with their content types."""
    frame = split(SECRET)["dataframe_split"]
    for odd in (None, True, 0, 1.5, "", "image", [], {}, [SECRET], {"image": SECRET}):
        yield odd, JSON
        yield {"dataframe_split": odd}, JSON
        yield {"dataframe_records": odd}, JSON
        yield {"inputs": odd}, JSON
        yield {"instances": odd}, JSON
        if not isinstance(odd, dict) or not odd:  # else that is a good request
            yield {"dataframe_records": [odd]}, JSON
        if not isinstance(odd, dict) or not odd:  # pandas takes the keys of an object
            yield {"dataframe_split": {"columns": odd, "data": [[SECRET]]}}, JSON
        if odd != [SECRET]:  # pandas reads this as the one row that it could be
            yield {"dataframe_split": {"columns": ["image"], "data": odd}}, JSON
        if odd != "":  # an empty text counts as none
            yield split(SECRET, client=[odd if not isinstance(odd, str) else odd * 99]), JSON if odd else None
        if odd is not None:
            yield split(SECRET) | {"params": {"threshold": odd}}, JSON
            yield split(SECRET) | {"params": {"mask_format": odd}}, JSON
    for key in ("input", "messages", "prompt"):
        yield {key: SECRET}, JSON
        yield {key: [SECRET], "image": SECRET}, JSON
    yield {"dataframe_split": frame, "dataframe_records": [{"image": SECRET}]}, JSON
    yield {"dataframe_split": frame | {"surplus": SECRET}}, JSON
    yield {"dataframe_split": {"columns": ["image"] * 2, "data": [[SECRET] * 2]}}, JSON
    yield {"dataframe_split": {"columns": ["image", "slice", "slice"], "data": [[SECRET, "a", "b"]]}}, JSON
    yield {"dataframe_split": {"columns": ["image"], "data": [[SECRET, SECRET]]}}, JSON
    yield {"signature_name": SECRET, "inputs": {"image": [SECRET]}}, JSON
    yield "[" * 100_000, JSON
    yield '{"dataframe_split": ' + "9" * 5000 + "}", JSON
    yield b"\xff\xfe" + SECRET.encode(), JSON
    yield b"", JSON
    for kind in (
        None,
        "",
        ";",
        "image/png",
        "text/plain",
        "application/json; charset=latin1",
        "text/csv",
        "x" * 500,
    ):
        yield json.dumps(split(SECRET)), kind
        yield IMAGE, kind
    yield f"image\n{SECRET}\n", "text/csv"
    yield b"\xff\xfe\xfd", "text/csv"
    yield b"PAR1" + IMAGE + b"PAR1", "application/vnd.apache.parquet"
    for image in _hostile_images():
        yield split(SECRET, base64.b64encode(image).decode()), JSON
    yield TOO_MANY, JSON


def _due(body: Any, kind: str | None) -> int:
    """The status of a refusal: of a kind that is not read, of more rows than are taken, or of anything else."""
    if kind not in READ:
        return 415
    return 413 if body == TOO_MANY else 400


def _mutated(rng: random.Random) -> tuple[Any, str | None]:
    """A good request, spoilt at one place that makes it bad for certain."""
    text = json.dumps(split(SECRET, SECRET, request_id=["a", "b"]))
    spoil = rng.randrange(6)
    if spoil == 0:  # the body is cut
        return text[: rng.randrange(1, len(text) - 1)], JSON
    if spoil == 1:  # a byte that no UTF-8 text holds
        at = rng.randrange(len(text))
        return text[:at].encode() + b"\xff" + text[at:].encode(), JSON
    if spoil == 2:  # an image file that stops early
        return split(SECRET, base64.b64encode(IMAGE[: rng.randrange(len(IMAGE) - 20)]).decode()), JSON
    if spoil == 3:  # other bytes instead of an image
        return split(base64.b64encode(b"\0" + rng.randbytes(rng.randrange(400))).decode(), SECRET), JSON
    if spoil == 4:  # a letter lost: base64 comes in fours
        at = rng.randrange(len(SECRET) - 4)
        return split(SECRET, SECRET[:at] + SECRET[at + 1 :]), JSON
    odd = rng.choice([None, True, 3, [SECRET], {"image": SECRET}, [], {}])
    return split(SECRET, odd), JSON


def test_500_malformed_bodies_are_refused_and_the_server_goes_on(server: Server) -> None:
    rng = random.Random(0)
    bodies = list(_handwritten())
    bodies += [_mutated(rng) for _ in range(500 - len(bodies))]
    assert len(bodies) == 500
    # Pieces of the image as they would show in an error: as sent, and as Python prints bytes.
    pieces = [SECRET[at : at + 12] for at in range(0, len(SECRET) - 12, 40)]
    pieces += [repr(IMAGE[at : at + 8])[2:-1] for at in range(0, len(IMAGE) - 8, 40)]
    wrong = []
    for body, kind in bodies:
        response = server.post(body, kind)
        told = response.text
        leaks = [piece for piece in pieces if piece in told or piece in told.replace("\\\\", "\\")]
        traced = any(word in told for word in ("Traceback", "stack_trace", 'File "', "\\x89PNG"))
        if response.status_code != _due(body, kind) or leaks or traced or len(told) > 2000:
            wrong.append((str(body)[:80], kind, response.status_code, told[:300]))
    assert not wrong
    assert server.post(split(SECRET)).status_code == 200
    log = server.output.read_text(errors="replace")
    assert "Traceback" not in log
    assert not [piece for piece in pieces if piece in log]


def test_refused_images_are_in_the_log_without_a_descriptor(server: Server) -> None:
    client = "cut off " + uuid.uuid4().hex
    half = base64.b64encode(IMAGE[: len(IMAGE) // 2]).decode()
    assert server.post(split(SECRET, half, client=[client, client])).status_code == 400
    query = "select status, brightness, foreground_fraction from predictions where client = ?"
    assert until(lambda: _logged(server, query, client)) == [("refused", None, None)]


def test_a_body_above_the_limit_is_refused_before_it_is_parsed(server: Server) -> None:
    response = server.post(b"[" * 20_000_000)
    assert response.status_code == 413 and "RESUNET_MAX_IMAGE_MB=10" in response.json()["message"]


def test_bytes_that_are_not_http_do_not_stop_it(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    for garbage in (IMAGE, b"POST /invocations HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"\r\n" * 50):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(garbage)
    assert server.post(split(SECRET)).status_code == 200


def test_eight_threads_get_equal_answers_and_every_row_is_logged_once(server: Server) -> None:
    texts = [base64.b64encode(encode(draw(48 + 8 * i, 64, seed=i))).decode() for i in range(4)]
    alone = [server.post(split(text)).json()["predictions"][0] for text in texts]
    ids = [uuid.uuid4().hex for _ in range(64)]

    def ask(number: int) -> dict[str, Any]:
        body = split(texts[number % 4], request_id=[ids[number]], client=["eight threads"])
        answer: dict[str, Any] = server.post(body).json()["predictions"][0]
        return answer

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(64)))
    for number, answer in enumerate(answers):
        assert answer["mask"] == alone[number % 4]["mask"]
        assert answer["confidence"] == pytest.approx(alone[number % 4]["confidence"], abs=1e-6)
        assert answer["request_id"] == ids[number]
    query = "select request_id from predictions where client = ?"
    until(lambda: len(_logged(server, query, "eight threads")) >= 64)
    assert sorted(row[0] for row in _logged(server, query, "eight threads")) == sorted(ids)


def _logged(server: Server, query: str, client: str) -> list[tuple[Any, ...]]:
    """What a query for one client finds; the database is made with the first row."""
    if not server.database.exists():
        return []
    with closing(sqlite3.connect(server.database)) as database:
        return database.execute(query, (client,)).fetchall()
