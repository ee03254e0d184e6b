"""A trace says where its spans are; a real guarded server believes none of it when it deletes."""

import contextlib
import itertools
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from guarded_server import GuardedServer

SPANS, ARCHIVE = "mlflow.trace.spansLocation", "mlflow.trace.archiveLocation"
_NUMBERS = itertools.count(1)


@dataclass
class Scene:
    """A folder of the server's machine that somebody wants gone, and an experiment for their traces."""

    server: GuardedServer
    folder: Path
    experiment: str

    @property
    def tags(self) -> dict[str, str]:
        # MLflow's local store unquotes this twice, and what ends the path is what it would add to it.
        return {SPANS: "ARCHIVE_REPO", ARCHIVE: f"%66ile://{self.folder}?", "mine": "stays"}

    def kept(self, trace: str) -> dict[str, str]:
        """The tags that the server's tables have of a trace."""
        with self.tables() as tables:
            return dict(tables.execute("SELECT key, value FROM trace_tags WHERE request_id = ?", (trace,)).fetchall())

    @contextlib.contextmanager
    def tables(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.server.folder / "mlflow.db", timeout=60)) as tables, tables:
            yield tables

    def delete(self, unit: str, trace: str) -> None:
        body = {"experiment_id": self.experiment, "request_ids": [trace]}
        answer = self.server.send("POST", f"{unit}/mlflow/traces/delete-traces", body)
        assert (answer.status, json.loads(answer.text)) == (200, {"traces_deleted": 1})
        assert (self.folder / "kept.txt").read_text() == "kept"
        with self.tables() as tables:
            left = tables.execute("SELECT count(*) FROM trace_info WHERE request_id = ?", (trace,)).fetchone()
        assert left == (0,)

    def started(self, unit: str, trace: str, tags: dict[str, str]) -> int:
        info = {
            "trace_id": trace,
            "trace_location": {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": self.experiment}},
            "request_time": "2026-01-01T00:00:00Z",
            "execution_duration": "1s",
            "state": "OK",
            "tags": tags,
        }
        return self.server.send("POST", f"{unit}/3.0/mlflow/traces", {"trace": {"trace_info": info}}).status


@pytest.fixture
def scene(gate_server: GuardedServer, tmp_path: Path) -> Scene:
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "kept.txt").write_text("kept")
    return Scene(gate_server, folder, gate_server.client.create_experiment(f"traces {next(_NUMBERS)}"))


@pytest.mark.parametrize("unit", ["/api", "/ajax-api"])
def test_no_new_trace_says_where_its_spans_are(scene: Scene, unit: str) -> None:
    trace = f"tr-{next(_NUMBERS):032x}"
    assert scene.started(unit, trace, scene.tags) == 200
    kept = scene.kept(trace)
    assert kept["mine"] == "stays" and not {SPANS, ARCHIVE} & set(kept)
    scene.delete(f"{unit}/3.0", trace)


@pytest.mark.parametrize("unit", ["/api/2.0", "/ajax-api/2.0"])
def test_no_trace_of_the_old_kind_says_so_when_it_starts_or_ends(scene: Scene, unit: str) -> None:
    tags = [{"key": key, "value": value} for key, value in scene.tags.items()]
    start = {"experiment_id": scene.experiment, "timestamp_ms": 1, "request_metadata": [], "tags": tags}
    answer = scene.server.send("POST", f"{unit}/mlflow/traces", start)
    trace = json.loads(answer.text)["trace_info"]["request_id"]
    end = {"timestamp_ms": 2, "status": "OK", "request_metadata": [], "tags": tags}
    assert scene.server.send("PATCH", f"{unit}/mlflow/traces/{trace}", end).status == 200
    kept = scene.kept(trace)
    assert kept["mine"] == "stays" and not {SPANS, ARCHIVE} & set(kept)
    scene.delete(unit, trace)


@pytest.mark.parametrize("tag", [SPANS, ARCHIVE])
def test_no_span_says_so_for_its_trace(scene: Scene, tag: str) -> None:
    number = f"{next(_NUMBERS):032x}"

    def send(key: str) -> int:
        attribute = {"key": f"mlflow.traceTag.{key}", "value": {"stringValue": scene.tags.get(key, "")}}
        times = {"startTimeUnixNano": "1", "endTimeUnixNano": "2"}
        span = {"traceId": number, "spanId": "0000000000000001", "name": "x", "attributes": [attribute], **times}
        body = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
        headers = {"X-MLflow-Experiment-Id": scene.experiment}
        return scene.server.send("POST", "/v1/traces", body, headers=headers).status

    assert send(tag) >= 400
    assert scene.kept(f"tr-{number}") == {}
    assert send("mine") == 200
    assert scene.kept(f"tr-{number}").get(SPANS) == "TRACKING_STORE"


@pytest.mark.parametrize("unit", ["/api/2.0", "/api/3.0"])
def test_what_a_trace_said_before_there_was_a_guard_is_not_believed_either(scene: Scene, unit: str) -> None:
    trace = f"tr-{next(_NUMBERS):032x}"
    assert scene.started("/api", trace, {}) == 200
    with scene.tables() as tables:
        rows = [(key, value, trace) for key, value in scene.tags.items()]
        tables.executemany("INSERT INTO trace_tags (key, value, request_id) VALUES (?, ?, ?)", rows)
    scene.delete(unit, trace)


def test_a_traces_id_is_no_path(scene: Scene) -> None:
    for trace in ("tr-1/../../x", "..", "tr-1%2f..", "tr-1\n", ""):
        assert scene.started("/api", trace, {}) == 400, trace
