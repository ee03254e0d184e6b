"""An Evidently workspace: `evidently ui --workspace FOLDER` shows the history of reports there, and lines over time.

    keep_snapshot(snapshot, folder, project="resunet")

The workspace is a folder of files. Importing this module takes seconds, Evidently's: import it where it is needed.
"""

from pathlib import Path
from typing import Any

from evidently.sdk.models import DashboardPanelPlot, PanelMetric
from evidently.sdk.panels import line_plot_panel
from evidently.ui.workspace import Workspace
from filelock import FileLock, Timeout

from resunet.descriptors import PREDICTION_DESCRIPTORS
from resunet.errors import SettingsError

_PATIENCE_S = 30.0
# Of all descriptors of an image, in one chart, nobody could tell one from another.
_SHOWN = ("brightness", "contrast", "saturation", "sharpness", "noise")


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
            # A project of an earlier release has none; whoever has made panels of their own keeps those.
            if not home.dashboard.model().panels:
                for panel in _panels():
                    home.dashboard.add_panel(panel)
        workspace.add_run(home.id, snapshot, include_data=False)
    except (OSError, Timeout) as error:
        raise SettingsError(
            f"the Evidently workspace {folder} cannot be written ({error}): set RESUNET_MONITORING_WORKSPACE"
        ) from error


def _panels() -> list[DashboardPanelPlot]:
    """Of a project's dashboard: a line a question, a point a report."""
    moved = PanelMetric(legend="moved", metric="DriftedColumnsCount", metric_labels={"value_type": "count"})
    panels = [line_plot_panel("Descriptors that moved", [moved])]
    for title, columns in (("images", _SHOWN), ("predictions", PREDICTION_DESCRIPTORS)):
        lines = [PanelMetric(legend=name, metric="ValueDrift", metric_labels={"column": name}) for name in columns]
        panels.append(line_plot_panel(f"p-values of {title}: at the bottom it moved", lines, size="half"))
    return panels
