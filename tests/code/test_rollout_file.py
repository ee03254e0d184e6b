"""The file of a rollout: whole or as before, whenever its writer is killed, and of one format."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rollout_scene import NOON, begun, later, seen, through
from waiting import until

from serving.rollout.file import Kept, RolloutFile
from serving.rollout.policy import DEFAULT_POLICY, PolicyFile
from serving.rollout.state import RolloutError
from serving.rollout.status import status
from serving.rollout.transitions import abort

WRITE_FOR_EVER = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from rollout_scene import begun, seen, through
from serving.rollout.file import Kept, RolloutFile
file, rollout = RolloutFile(Path(sys.argv[1])), through(begun())
evidence = seen(rollout)
while True:
    rollout = replace(rollout, spent=rollout.spent + 1)
    file.write(Kept(rollout, evidence))
    print(rollout.spent, flush=True)
"""
HOLD_FOR_EVER = """
import sys, time
from pathlib import Path
from serving.rollout.file import RolloutFile
with RolloutFile(Path(sys.argv[1])).held():
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def file(tmp_path: Path) -> RolloutFile:
    return RolloutFile(tmp_path / "gateway" / "rollout.json")


def script(code: str, file: RolloutFile) -> "subprocess.Popen[str]":
    here = Path(__file__).parent
    command = [sys.executable, "-c", code, str(file.path), str(here), str(here.parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parents[1])])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def test_without_a_file_nothing_is_rolled_out(file: RolloutFile) -> None:
    assert file.read() == Kept(None, None, clean=True)
    assert not file.path.parent.exists()


def test_what_was_written_is_read_and_nobody_else_may_read_it(file: RolloutFile) -> None:
    rollout = through(begun())
    for kept in (Kept(None, None), Kept(rollout, None), Kept(rollout, seen(rollout))):
        file.write(kept)
        assert file.read() == kept
        assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert [path.name for path in file.path.parent.iterdir()] == ["rollout.json"]
    assert json.loads(file.path.read_text())["format"] == 1


def test_who_reads_while_another_writes_finds_a_whole_file(file: RolloutFile) -> None:
    writer = script(WRITE_FOR_EVER, file)
    assert writer.stdout is not None and writer.stdout.readline()
    found = {kept.rollout.spent for kept in (file.read() for _ in range(100)) if kept.rollout is not None}
    writer.kill()
    writer.wait(timeout=60)
    writer.stdout.close()
    assert len(found) > 1


def test_what_a_killed_writer_began_is_no_hindrance(file: RolloutFile) -> None:
    file.path.parent.mkdir()
    begun_file = file.path.with_name("rollout.json.part")
    begun_file.write_text("{")
    begun_file.chmod(0o644)
    file.write(Kept(begun(), None))
    assert file.read() == Kept(begun(), None)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_a_writer_that_is_killed_leaves_a_whole_file(file: RolloutFile) -> None:
    for _ in range(5):
        writer = script(WRITE_FOR_EVER, file)
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(3)]
        writer.send_signal(signal.SIGKILL)
        said += writer.stdout.readlines()
        writer.wait(timeout=60)
        writer.stdout.close()
        rollout, evidence, _ = file.read()
        assert rollout is not None and evidence is not None
        # The last that it said, or the one that it could no longer say.
        last = float(next(line for line in reversed(said) if line.endswith("\n")))
        assert 0 <= rollout.spent - last < 1.5
        assert evidence == seen(through(begun()))
    # What a killed writer left does not hinder the next.
    file.write(Kept(None, None))
    assert file.read() == Kept(None, None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is damaged"),
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"format": 1}', "is damaged"),
        ('{"format": 1, "rollout": {"id": "r1"}, "evidence": null}', "is damaged"),
        ('{"format": 1, "rollout": null, "evidence": {"format": 9}}', "is damaged"),
        ('{"format": 2, "rollout": null, "evidence": null}', "is of format 2, and this release reads 1"),
    ],
)
def test_a_file_that_is_not_understood_is_named_and_left_alone(file: RolloutFile, text: str, told: str) -> None:
    file.path.parent.mkdir()
    file.path.write_text(text)
    with pytest.raises(RolloutError, match=told) as refused:
        file.read()
    assert str(file.path) in str(refused.value) and "move it away" in str(refused.value)
    assert file.path.read_text() == text


def test_a_file_that_cannot_be_read_or_written_is_named(file: RolloutFile) -> None:
    file.path.mkdir(parents=True)
    with pytest.raises(RolloutError, match="cannot be read"):
        file.read()
    with pytest.raises(RolloutError, match="cannot be written"):
        file.write(Kept(None, None))
    assert [path.name for path in file.path.parent.iterdir()] == ["rollout.json"]


def test_two_who_change_it_take_turns(file: RolloutFile) -> None:
    file.write(Kept(begun(), None))

    def add() -> None:
        for _ in range(20):
            with file.held():
                kept = file.read()
                assert kept.rollout is not None
                file.write(Kept(through(begun()) if kept.rollout.epoch == 1 else begun(), None))
                turns.append(kept.rollout.epoch)

    turns: list[int] = []
    threads = [threading.Thread(target=add) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert turns == [1, 2] * 20


def test_who_waits_too_long_is_told_and_a_killed_holder_holds_nothing(file: RolloutFile) -> None:
    holder = script(HOLD_FOR_EVER, file)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(RolloutError, match="another process has held"), file.held(seconds=0.1):
        pass
    holder.kill()
    holder.wait(timeout=60)
    holder.stdout.close()
    with file.held():
        assert until(lambda: file.path.parent.exists())


def test_status_tells_what_a_person_wants_to_know() -> None:
    rollout, policies = through(begun()), PolicyFile(None)
    told = status(rollout, seen(rollout, 2000, failing=0.05), policies, later(90))
    assert (told["phase"], told["canary"], told["candidate"]["number"]) == ("canary", 0.01, "2")
    assert told["routes"]["canary"]["requests"] + told["routes"]["production"]["requests"] == 2000
    assert {finding["metric"] for finding in told["findings"]} == {"errors", "latency", "confidence"}
    assert any("answers of the candidate" in line for line in told["waiting"])
    assert told["events"][-1]["reason"] == rollout.reason
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_status_of_nothing_and_of_what_has_ended_is_short() -> None:
    policies = PolicyFile(None)
    assert status(None, None, policies, NOON) == {"phase": "idle", "policy_error": None}
    ended = abort(begun(), NOON, "by ada").rollout
    told = status(ended, None, policies, NOON)
    assert told["phase"] == "aborted" and "findings" not in told
    begins = status(begun(), None, policies, NOON)
    assert begins["routes"]["shadow"]["requests"] == 0 and begins["agreement"]["mean"] is None
    json.dumps(begins, allow_nan=False)


def test_status_tells_of_a_policy_that_does_not_hold(tmp_path: Path) -> None:
    path = tmp_path / "rollout.yaml"
    path.write_text(DEFAULT_POLICY.read_text())
    policies = PolicyFile(path)
    path.write_text("format: 1\n")
    told = status(None, None, policies, NOON)["policy_error"]
    assert told is not None and "rollout.yaml, line 1" in told
