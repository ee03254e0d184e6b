"""Measuring missing evidence on the server's machine, in a process of its own that outlives the request.

The gates only judge; what measures is `python -m pipelines evidence`, on copies of the two versions' files that were
checked against their digests. One measurement of a version at a time; its state lies in RESUNET_HOME/measuring, where
every worker of the server finds it, and a server that was started again.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mlflow.exceptions import MlflowException
from mlflow.server import handlers

from registry.data_place import find_data
from registry.facts import read_facts
from registry.guard.answers import without_places
from registry.guard.measurer import EXIT_CODE
from registry.guard.messages import Measuring
from registry.judgement import Judgement
from registry.lifecycle import Lifecycle
from registry.people import Actor
from registry.versions import ModelState
from resunet.errors import VersionError

_LOG: Final = "log.txt"
_TAIL: Final = 2000
# It works on copies and runs what a version brings along: no server's credentials, no store's, no signing key.
_KEPT_BACK: Final = (
    "MLFLOW_", "_MLFLOW_", "AWS_", "AZURE_", "GOOGLE_", "RESUNET_SIGNING", "RESUNET_NOTIFY",
)  # fmt: skip


def start(life: Lifecycle, judgement: Judgement, actor: Actor) -> Measuring:
    """Measure what is missing for a judgement, unless that is under way.

    Raises:
        SettingsError: nobody knows where the version's data set is.
        StoreError: the files of a version cannot be fetched now.
        VersionError: they are not to be believed.
    """
    folder = _folder(life, judgement.model, judgement.version)
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder) as lock:
        if lock is None:
            return _progress(folder)
        state = life.shelf.read(judgement.model)
        command = [sys.executable, "-m", "pipelines", "evidence", *_options(life, state, judgement, actor, folder)]
        (folder / EXIT_CODE).unlink(missing_ok=True)
        with (folder / _LOG).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "registry.guard.measurer", str(folder), str(lock), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(),
                pass_fds=(lock,),
            )
    # Whoever does not wait for its child keeps a zombie.
    threading.Thread(target=process.wait, daemon=True).start()
    return Measuring(state="running")


def progress(life: Lifecycle, name: str, version: str) -> Measuring:
    """How the measurement of a version goes; none: none was started here.

    Raises:
        SettingsError: no such model or version.
    """
    return _progress(_folder(life, name, life.shelf.read(name).row(version).version))


def _progress(folder: Path) -> Measuring:
    if not (folder / _LOG).is_file():
        return Measuring(state="none")
    with _locked(folder) as lock:
        told = without_places((folder / _LOG).read_text(encoding="utf-8", errors="replace"))[-_TAIL:]
        if lock is None:
            return Measuring(state="running", told=told)
        ended = folder / EXIT_CODE
        # Nothing noted: it was ended in the middle.
        done = ended.is_file() and ended.read_text(encoding="utf-8").strip() == "0"
        return Measuring(state="done" if done else "failed", told=told)


@contextmanager
def _locked(folder: Path) -> Iterator[int | None]:
    """The number of an open file that holds the folder's lock, for a child to inherit; None: somebody has it."""
    number = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield number
    finally:
        os.close(number)


def _folder(life: Lifecycle, name: str, version: str) -> Path:
    # The digest tells names apart that differ in what a path cannot hold.
    readable = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in name)[:40]
    known = hashlib.sha256(name.encode()).hexdigest()[:16]
    return life.settings.home.absolute() / "measuring" / f"{readable}-{known}-{int(version)}"


def _options(life: Lifecycle, state: ModelState, judgement: Judgement, actor: Actor, folder: Path) -> list[str]:
    """Of the command; each value behind its `=`, and names behind `--`: they may begin with a dash."""
    options = [f"--stage={judgement.stage}", f"--by={actor.name}", f"--only={','.join(judgement.missing)}"]
    options.append(f"--candidate={_copy(life, state, judgement.version, folder / 'candidate')}")
    if judgement.champion:
        options.append(f"--champion={_copy(life, state, judgement.champion, folder / 'champion')}")
    return [*options, *_data_options(life, state, judgement.version), "--", judgement.model, judgement.version]


def _copy(life: Lifecycle, state: ModelState, version: str, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    with life.shelf.files(state.name, version) as root:
        shutil.copytree(root, target, symlinks=True)
    facts = read_facts(version, target, None)
    if facts.damage:
        raise VersionError(f"version {version} of {state.name}: {facts.damage}")
    return target


def _data_options(life: Lifecycle, state: ModelState, version: str) -> list[str]:
    run_id = state.row(version).run_id
    try:
        tags = handlers._get_tracking_store().get_run(run_id).data.tags if run_id else {}
    except MlflowException:
        tags = {}
    return find_data(tags, life.settings.data, f"version {version} of {state.name}").options()


def _environment() -> dict[str, str]:
    """This process's own, without what the measuring does not need and the code of a version must not see."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_KEPT_BACK)}
