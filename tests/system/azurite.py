"""Azure Blob Storage on this machine: Microsoft's emulator, from npm."""

import base64
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from needed import missing, needed
from waiting import until

from pipelines.servers import free_port, start_group, stop_group

ROOT = Path(__file__).parents[2]
COMMAND = ROOT / ".venv" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
ACCOUNT = "resunet"
DEADLINE_SECONDS = 120.0


@dataclass
class Azurite:
    """The emulator, with one container.

    Attributes:
        connection: AZURE_STORAGE_CONNECTION_STRING.
        root: of MLflow's artifacts.
    """

    connection: str
    root: str
    process: subprocess.Popen[bytes]
    container: Any

    def stop(self) -> None:
        stop_group(self.process)


@contextlib.contextmanager
def azurite(folder: Path) -> Iterator[Azurite]:
    """Run it until the block ends."""
    blob = _needed()
    port, key = free_port(), base64.b64encode(secrets.token_bytes(64)).decode()
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder / "blobs")]
    options += ["--silent", "--disableTelemetry", "--skipApiVersionCheck"]
    process = start_group(
        [str(COMMAND), *options],
        {**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{key}"},
        folder,
        folder / "azurite.log",
    )
    try:
        _wait(port, process, folder / "azurite.log")
        connection = (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};"
            f"BlobEndpoint=http://127.0.0.1:{port}/{ACCOUNT};"
        )
        container = blob.BlobServiceClient.from_connection_string(connection).create_container("versions")
        root = f"wasbs://versions@{ACCOUNT}.blob.core.windows.net/mlflow"
        yield Azurite(connection, root, process, container)
    finally:
        stop_group(process)


def _needed() -> Any:
    """The client library, where the emulator is here too."""
    if not COMMAND.is_file() or shutil.which("node") is None:
        missing("no Azure emulator: install Node and npm, and run `make test`, which fetches azurite")
    return needed("azure.storage.blob", "no client of Azure Blob Storage: install the extra `azure`")


def _wait(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    def words() -> str:
        return log.read_text(errors="replace")[-2000:]

    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    until(lambda: process.poll() is not None or listens(), words, DEADLINE_SECONDS, every=0.1)
    assert process.poll() is None, words()
