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
    assert promotion._thread is not None
    promotion._thread.join(60)
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


def test_a_gateway_that_ends_leaves_no_process() -> None:
    promotion = Promotion("resunet", [running("import time; time.sleep(600)")])
    promotion.begin("8", "")
    child = until(lambda: [one for one in psutil.Process().children() if "time.sleep(600)" in " ".join(one.cmdline())])[
        0
    ]
    promotion.stop()
    assert not child.is_running()
