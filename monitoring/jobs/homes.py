"""A name for a RESUNET_HOME that no other one has, and that it keeps.

    home_name(home, socket.gethostname())       # "node1 3f9a2c41"

It is in a file of the home: machines or containers may share a name, and a container's changes with each start. The
host in it is the one that gave the name, for people to know the home by.
"""

import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Final

from resunet.errors import SettingsError

FILE: Final = "home-name"
_STRANGE: Final = re.compile(r"[^\w.-]")
_NAME: Final = re.compile(r"[\w.-]{1,64} [0-9a-f]{8}")


def home_name(home: Path, host: str) -> str:
    """The name of a home, given to it if it has none; of several who do so at once one does.

    Args:
        host: this machine's name.

    Raises:
        SettingsError: its file cannot be read or written, or holds something else.
    """
    path = home / FILE
    try:
        if not path.exists():
            called = _STRANGE.sub("-", host)[:64] or "host"
            _give(path, f"{called} {secrets.token_hex(4)}")
        name = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise SettingsError(f"{path} cannot be used: {reason}. Mend its rights or delete it") from error
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{path} holds no name of a home: delete it, and a new one is made")
    return name


def _give(path: Path, name: str) -> None:
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    part.write_text(f"{name}\n", encoding="utf-8")
    try:
        # There as a whole or not at all, and never in the place of another one's.
        with suppress(FileExistsError):
            try:
                os.link(part, path)
            except FileExistsError:
                raise
            except OSError:  # a file system without links
                with path.open("x", encoding="utf-8") as file:
                    file.write(f"{name}\n")
    finally:
        part.unlink()
