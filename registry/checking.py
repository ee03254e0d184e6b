"""`check`: ask the gates, and have measured what they miss.

Gates only judge. What measures is `python -m pipelines evidence`: a process of its own, here or at the guarded server.
"""

import subprocess
import sys
import time
from typing import Final

from rich.console import Console

from registry.desk import Desk
from registry.judgement import Judgement
from registry.people import Actor
from registry.remote import RemoteLifecycle
from resunet.errors import ResunetError, SettingsError

POLL_SECONDS: Final = 1.0


def check(
    desk: Desk, name: str, version: str, stage: str, actor: Actor, console: Console, measure: bool, data: str = ""
) -> Judgement:
    """Judge a version; with `measure`, measure what is missing first.

    Args:
        data: data set to measure on; empty takes the one that the version's run used.

    Raises:
        SettingsError: a data set is named, and it is a guarded server that measures.
        ResunetError: the measuring failed; what it printed is on the console.
    """
    if isinstance(desk, RemoteLifecycle):
        if data:
            raise SettingsError("--data: this server measures on what it knows of; set RESUNET_DATA there")
        return _check_there(desk, name, version, stage, actor, console, measure)
    judgement = desk.check(name, version, stage, actor)
    if not (measure and judgement.missing):
        return judgement
    console.print(f"measuring {', '.join(judgement.missing)}", style="dim", soft_wrap=True)
    command = [sys.executable, "-m", "pipelines", "evidence", judgement.model, judgement.version]
    command += ["--stage", judgement.stage, "--by", actor.name, "--only", ",".join(judgement.missing)]
    code = subprocess.run([*command, *(("--data", data) if data else ())], check=False).returncode
    if code:
        raise ResunetError(f"`python -m pipelines evidence` ended with exit code {code}; what it printed is above")
    return desk.check(name, version, stage, actor)


def _check_there(
    desk: RemoteLifecycle, name: str, version: str, stage: str, actor: Actor, console: Console, measure: bool
) -> Judgement:
    answer = desk.check_and_measure(name, version, stage, actor, measure)
    if answer.measuring is None:
        return answer.judgement
    missing = ", ".join(answer.judgement.missing)
    with console.status(f"the server measures {missing}") as status:
        state = answer.measuring
        while state.state == "running":
            time.sleep(POLL_SECONDS)
            state = desk.measuring(name, answer.judgement.version)
            lines = state.told.strip().splitlines()
            if lines:
                status.update(f"the server measures {missing}: {lines[-1][-100:]}")
    if state.state != "done":
        raise ResunetError(f"the server could not measure {missing}; it said:\n{state.told.strip()}")
    return desk.check(name, version, stage, actor)
