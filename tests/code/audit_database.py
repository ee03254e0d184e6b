"""Stand-ins for pip-audit, so that no test depends on what is installed here, or asks anybody outside.

    from audit_database import audit_answers, no_audit_database

The second one is a fixture that each test of a file then has: there is no pip-audit, wherever it is run.
"""

from pathlib import Path

import pytest

__all__ = ["audit_answers", "no_audit_database"]


def audit_answers(monkeypatch: pytest.MonkeyPatch, folder: Path, script: str) -> None:
    """Put a pip-audit in the path that runs this script; `asked` are the pins that it was given."""
    (folder / "pip_audit").mkdir(parents=True)
    (folder / "pip_audit" / "__init__.py").touch()
    reads = "import json, sys\nasked = open(sys.argv[-1]).read().split('\\n')\n"
    (folder / "pip_audit" / "__main__.py").write_text(reads + script)
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.fixture(autouse=True)
def no_audit_database(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python says of a package that is not there what this one does."""
    script = "sys.exit(f'{sys.executable}: No module named pip_audit')"
    audit_answers(monkeypatch, tmp_path_factory.mktemp("no audit"), script)
