"""The process that measures for a guarded server: it waits for its turn, runs one command, and notes how that ended.

    python -m registry.guard.measurer FOLDER LOCK command…

LOCK is the number of an open file whose lock the server took: it is held for as long as this process or its command
lives, whatever becomes of the server. One measurement at a time: two that are timed at once would measure each other.
"""

import fcntl
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

EXIT_CODE: Final = "exit_code"
COPIES: Final = ("candidate", "champion")
TURN: Final = "turn.lock"


def main(folder: Path, lock: int, command: list[str]) -> None:
    """Run the command when no other measurement runs, and write its exit code into the folder."""
    with (folder.parent / TURN).open("w") as turn:
        try:
            fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another version is being measured: waiting for that to end", flush=True)
            fcntl.flock(turn, fcntl.LOCK_EX)
        code = subprocess.run(command, stdin=subprocess.DEVNULL, pass_fds=(lock,), check=False).returncode
    for name in COPIES:
        shutil.rmtree(folder / name, ignore_errors=True)
    written = folder / f"{EXIT_CODE}.new"
    written.write_text(f"{code}\n", encoding="utf-8")
    written.replace(folder / EXIT_CODE)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
