"""The registry is asked in a process of its own, and what it says is told once."""

import sys
from pathlib import Path

import psutil
import pytest
from waiting import until

from serving.gateway.rollouts.promotion import Promotion


def running(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text, "{name}", "{version}", "{reason}")


def test_its_commands_run_one_after_the_other_with_what_is_asked_for(tmp_path: Path) -> None:
    written = f"import sys; open({str(tmp_path / 'said')!r}, 'a').write(' '.join(sys.argv[1:]) + chr(10))"
    promotion = Promotion("resunet", [running(written), running(written)])
    promotion.begin("8", "it is {through}")
    until(lambda: (tmp_path / "said").exists() and len((tmp_path / "said").read_text().splitlines()) == 2)
    assert (tmp_path / "said").read_text() == "resunet 8 it is {through}\n" * 2
    assert promotion._current is not None
    promotion._current.join(60)
    assert promotion.refusal() is None


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        (
            "print('a table'); raise SystemExit(3)",
            "raise SystemExit('error: the gate floor\\n  blocks')",
            "the gate floor blocks",
        ),
        ("raise SystemExit('error: no data set')", "print('not reached')", "no data set"),
        ("pass", "raise SystemExit(5)", "exit code 5"),
    ],
)
def test_what_the_registry_refused_is_told_once(first: str, last: str, said: str) -> None:
    promotion = Promotion("resunet", [running(first), running(last)])
    promotion.begin("8", "")
    assert until(promotion.refusal) == said
    assert promotion.refusal() is None


def child_of_this(promotion: Promotion) -> psutil.Process:
    mine = psutil.Process()
    (child,) = until(lambda: [one for one in mine.children() if "time.sleep(600)" in " ".join(one.cmdline())])
    return child


def test_what_is_cancelled_ends_says_nothing_and_promotes_nothing(tmp_path: Path) -> None:
    slow, touch = running("import time; time.sleep(600)"), running(f"open({str(tmp_path / 'promoted')!r}, 'w')")
    promotion = Promotion("resunet", [slow, touch])
    promotion.begin("8", "")
    child = child_of_this(promotion)
    promotion.cancel()
    assert not child.is_running() and promotion.refusal() is None
    assert not (tmp_path / "promoted").exists()


def test_a_registry_that_does_not_come_to_an_end_is_a_refusal() -> None:
    promotion = Promotion("resunet", [running("import time; time.sleep(600)")], seconds=0.5)
    promotion.begin("8", "")
    child = child_of_this(promotion)
    assert "not decided" in until(promotion.refusal)
    assert not child.is_running()


def test_a_command_that_cannot_be_started_is_a_refusal() -> None:
    promotion = Promotion("resunet", [running("pass")])
    promotion.begin("8", "no word of a command line: \0")
    assert "could not be asked (ValueError)" in until(promotion.refusal)
