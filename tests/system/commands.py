"""Commands of `python -m registry`, typed in this process: it saves the time to start Python."""

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout

import pytest
from mlflow.tracking._model_registry import utils as registry_state
from mlflow.tracking._tracking_service import utils as tracking_state

from records.console import run
from registry.cli import app

OURS = ("MLFLOW_", "RESUNET_")


def typed(environment: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    """What a command would do with these variables, prints and exits with."""
    with pytest.MonkeyPatch.context() as patch, _stream() as out, _stream() as errors:
        for name in [name for name in os.environ if name.startswith(OURS)]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.setattr(tracking_state, "_tracking_uri", None)
        patch.setattr(registry_state, "_registry_uri", None)
        patch.setattr(sys, "argv", ["registry", *words])
        with pytest.raises(SystemExit) as ended, redirect_stdout(out), redirect_stderr(errors):
            run(app)
        code = ended.value.code
        printed = [bytes(part.buffer.getbuffer()).decode() for part in (out, errors)]
    return subprocess.CompletedProcess(words, code if isinstance(code, int) else 0, *printed)


class _Stream(io.TextIOWrapper):
    """As a process's own stream is: text above bytes."""

    buffer: io.BytesIO


def _stream() -> _Stream:
    return _Stream(io.BytesIO(), "utf-8", write_through=True)
