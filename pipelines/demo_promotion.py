"""The demo's commands, and how it gets a version past the gates: by asking them, as anybody has to.

live = promote_in_demo(Steps(variables, console), client, "resunet", "2")
"""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Literal

from mlflow import MlflowClient
from rich.console import Console

from records.database import open_database
from records.verdicts import Kept, latest
from registry.versions import read_model
from resunet.errors import ResunetError

# They hold a version against the one that is live.
COMPARISONS: Final = frozenset({"champion", "slices", "performance"})
# How long a command may take to end when it is told to.
_ENDS_SECONDS: Final = 20.0
# Exit code of `registry check` where a gate blocks.
BLOCKED_EXIT: Final = 3


@dataclass(frozen=True)
class Steps:
    """Runs the platform's own commands, each in a process of its own, with the demo's environment."""

    variables: dict[str, str]
    console: Console

    def run(self, title: str, module: str, *arguments: str, allowed: Sequence[int] = (0,)) -> int:
        """Run `python -m module arguments…` and return its exit code.

        Raises:
            ResunetError: it ended with a code that is not allowed here.
        """
        self.console.rule(f"[bold]{title}", align="left")
        self.console.print(f"python -m {module} {shlex.join(arguments)}", style="dim", markup=False, soft_wrap=True)
        code = _run([sys.executable, "-m", module, *arguments], self.variables)
        if code not in allowed:
            raise ResunetError(f"the step “{title}” ended with exit code {code}; what it printed is above")
        return code

    def say(self, sentence: str) -> None:
        """Tell what the demo does that is no command."""
        self.console.print(sentence, style="yellow", markup=False, soft_wrap=True)


def _run(command: list[str], variables: dict[str, str]) -> int:
    """Run a command; where this process is told to end meanwhile, the command is told so too, and ends its own way."""
    with subprocess.Popen(command, env=variables) as process:
        try:
            return process.wait()
        except BaseException as error:
            if not isinstance(error, KeyboardInterrupt):  # of Ctrl-C the terminal has told it too
                process.terminate()
            try:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_ENDS_SECONDS)
            finally:
                process.kill()
            raise


def promote_in_demo(steps: Steps, client: MlflowClient, model: str, number: str) -> str:
    """Have a version measured, and promote it; the number of the version that is live then.

    Raises:
        ResunetError: a gate refused it, and not because of the live version.
    """
    live = read_model(client, model).live
    judged = _ask_gates(steps, model, number)
    steps.run("promote to Staging", "registry", "promote", model, number, "Staging", "--reason", "demo")
    way = way_on(judged, live)
    if live is not None and way == "keep":
        steps.say(f"{_why(judged)}. So version {live} stays live, and the demo goes on with it.")
        return live
    if live is not None and way == "archive":
        steps.say(
            f"{_why(judged)}. The demo archives version {live}, so that version {number} can go live without a "
            "comparison."
        )
        reason = f"cannot be compared with version {number}, the demo's next"
        steps.run("archive the live version", "registry", "archive", model, live, "--reason", reason)
        _ask_gates(steps, model, number)
    steps.run("promote to Production", "registry", "promote", model, number, "Production", "--reason", "demo")
    return number


def way_on(judged: Kept, live: str | None) -> Literal["promote", "archive", "keep"]:
    """What the demo does after the gates have spoken.

    A folder that has other images since gives a version that cannot be compared with the live one; that makes way
    then. Where the comparison can be made and is lost, the live version stays.

    Args:
        judged: what they said.
        live: the version that is live.

    Returns:
        promote: nothing blocks, or what does is not for the demo to go round: the command that promotes says it.
        archive: all that blocks is a comparison with the live version that decides nothing.
        keep: all that blocks is that comparison, and it is lost.
    """
    blocking = [gate for gate in judged.gates if gate["action"] == "block"]
    if live is None or not blocking or not {gate["gate"] for gate in blocking} <= COMPARISONS:
        return "promote"
    return "keep" if any(gate["outcome"] == "fail" for gate in blocking) else "archive"


def _ask_gates(steps: Steps, model: str, number: str) -> Kept:
    arguments = ("registry", "check", model, number, "--stage", "Production")
    steps.run("measure it and ask the gates", *arguments, allowed=(0, BLOCKED_EXIT))
    judged = latest(open_database(steps.variables["RESUNET_DATABASE"]), model, number, "Production")
    if judged is None:
        raise ResunetError(f"the gates' words on version {number} of {model} are not in the demo's records")
    return judged


def _why(judged: Kept) -> str:
    return "; ".join(f"{gate['gate']}: {gate['evidence']}" for gate in judged.gates if gate["action"] == "block")
