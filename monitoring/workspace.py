"""An Evidently workspace: `evidently ui --workspace FOLDER` shows the history of reports there.

    keep_snapshot(snapshot, folder, project="resunet")

The workspace is a folder of files. Importing this module takes seconds, Evidently's: import it where it is needed.
"""

from pathlib import Path
from typing import Any

from evidently.ui.workspace import Workspace
from filelock import FileLock, Timeout

from resunet.errors import SettingsError

_PATIENCE_S = 30.0


def keep_snapshot(snapshot: Any, folder: Path, project: str) -> None:
    """Add a report to a project of the workspace; both are made when they are missing.

    Args:
        snapshot: of `monitoring.evidently_report.run_evidently`.
        folder: of the workspace.
        project: its name, one for each model.

    Raises:
        SettingsError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Two reports that both find no project would make two of the same name.
        with FileLock(folder / "workspace.lock", timeout=_PATIENCE_S):
            workspace = Workspace.create(str(folder))
            found = next((one for one in workspace.list_projects() if one.name == project), None)
            home = found or workspace.create_project(project)
        workspace.add_run(home.id, snapshot, include_data=False)
    except (OSError, Timeout) as error:
        raise SettingsError(
            f"the Evidently workspace {folder} cannot be written ({error}): set RESUNET_MONITORING_WORKSPACE"
        ) from error
