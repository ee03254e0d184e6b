"""The demo on one data folder does not stand in the way of the demo on another, nor a version of itself."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from waiting import until

from pipelines.demo import Workplace, model_of
from pipelines.demo_promotion import COMPARISONS, way_on
from records.verdicts import Kept
from registry.gates import known_gates


def judged(**outcomes: str) -> Kept:
    """What the gates said: those that are named block, but for one that passed."""
    gates = [
        {"gate": gate, "outcome": outcome, "action": "allow" if outcome == "pass" else "block", "evidence": "told"}
        for gate, outcome in {"intact": "pass", **outcomes}.items()
    ]
    return Kept(
        model_name="resunet",
        version="2",
        version_digest="sha256:2",
        stage="Production",
        champion_digest="sha256:1",
        policy_digest="sha256:p",
        fingerprint="sha256:t",
        allowed=False,
        gates=gates,
        asked_by="ada",
        when=datetime(2026, 1, 1, tzinfo=UTC),
    )


def test_the_live_version_makes_way_where_the_comparison_with_it_decides_nothing() -> None:
    for outcomes in ({"champion": "undecided"}, {"slices": "undecided", "performance": "undecided"}):
        assert way_on(judged(**outcomes), "1") == "archive"


def test_the_live_version_stays_where_the_new_one_is_worse() -> None:
    for outcomes in ({"champion": "fail"}, {"performance": "fail"}, {"champion": "fail", "slices": "undecided"}):
        assert way_on(judged(**outcomes), "1") == "keep"


@pytest.mark.parametrize(
    ("outcomes", "live"),
    [
        ({}, "1"),
        ({"champion": "pass"}, "1"),
        ({"champion": "undecided", "floor": "fail"}, "1"),
        ({"champion": "fail", "signature": "fail"}, "1"),
        ({"robustness": "undecided"}, "1"),
        ({"slices": "fail"}, None),
    ],
    ids=["nothing blocks", "no worse", "below the floor too", "clients would break", "fragile", "nothing is live"],
)
def test_anything_else_is_left_to_the_gates(outcomes: dict[str, str], live: str | None) -> None:
    assert way_on(judged(**outcomes), live) == "promote"


def test_the_gates_that_compare_are_gates() -> None:
    assert set(known_gates()) >= set(COMPARISONS)


def test_each_data_folder_has_a_model_and_a_groups_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = tmp_path / "a/my nuclei: old", tmp_path / "b/my nuclei: old"
    one.mkdir(parents=True)
    assert model_of(None) == "resunet"
    assert model_of(one) == model_of(other) == "resunet-my-nuclei-old"
    monkeypatch.chdir(one)
    assert model_of(Path()) == "resunet-my-nuclei-old" and model_of(Path("/")) == "resunet-data"
    place = Workplace(tmp_path / "home")
    assert place.groups(one) != place.groups(other)
    assert place.groups(Path()) == place.groups(one)


def test_commands_and_server_agree_on_the_records_whatever_is_set(tmp_path: Path) -> None:
    place = Workplace(tmp_path / "home")
    assert place.variables["RESUNET_HOME"] == str(tmp_path / "home")
    assert place.variables["RESUNET_DATABASE"] == f"sqlite:///{tmp_path / 'home' / 'records.db'}"
    assert place.variables["RESUNET_DATA"] == ""


@pytest.mark.parametrize(("told", "whom"), [(signal.SIGTERM, "the demo"), (signal.SIGINT, "all of a terminal")])
def test_a_demo_that_is_told_to_end_lets_the_command_under_way_end_its_own_way(
    tmp_path: Path, told: signal.Signals, whom: str
) -> None:
    begun, ended = tmp_path / "begun", tmp_path / "ended"
    step = (
        "import signal, sys, time; from pathlib import Path\n"
        # What was started in the background by a shell may ignore it, and all that it starts.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))\n"
        f"Path({str(begun)!r}).touch()\n"
        f"try: time.sleep(60)\nfinally: time.sleep(1); Path({str(ended)!r}).touch()\n"
    )
    demo = (
        "import os, signal, sys; from pipelines.demo_promotion import _run\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        f"try: _run([sys.executable, '-c', {step!r}], dict(os.environ))\n"
        "except KeyboardInterrupt: sys.exit(130)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", demo], start_new_session=True)
    try:
        until(begun.exists, lambda: "the step did not begin", 60)
        if whom == "the demo":
            process.send_signal(told)
        else:
            os.killpg(process.pid, told)
        assert process.wait(60) == 128 + told
    finally:
        process.kill()
    assert ended.exists()
