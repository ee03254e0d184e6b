"""The MLflow run that an alert is about: a link to it for people, and its picture.

    with Reports(client, "https://mlflow.example") as reports:
        report = reports.find("0123…")
        report.line, report.picture

A tracking server that does not answer costs the link, not the message.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from monitoring.alerts.scratch import Scratch
from monitoring.pictures import PICTURES

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Report:
    """Where a report is.

    Attributes:
        line: for a message.
        picture: a file that lasts as long as `Reports` is open; None: there is none.
    """

    line: str
    picture: Path | None = None


class Reports(Scratch):
    """Looks each run up once.

    Args:
        client: None: no run is looked up.
        tracking_uri: what people open in a browser, where it is a web address.
    """

    def __init__(self, client: "MlflowClient | None", tracking_uri: str = "") -> None:
        super().__init__()
        self._client = client
        self._page = web_page(tracking_uri)
        self._found = dict[str, Report]()

    def find(self, run_id: str) -> Report:
        """The report of a run."""
        if run_id not in self._found:
            self._found[run_id] = self._look(run_id)
        return self._found[run_id]

    def _look(self, run_id: str) -> Report:
        nothing = Report(f"report: MLflow run {run_id}")
        if self._client is None:
            return nothing
        try:
            experiment = self._client.get_run(run_id).info.experiment_id
            artifacts = {item.path for item in self._client.list_artifacts(run_id)}
        except Exception as error:
            # The words are worth sending all the same, and nobody waits for a server that is away once more.
            if getattr(error, "error_code", None) != "RESOURCE_DOES_NOT_EXIST":
                self._client = None
            return nothing
        line = f"report: {self._page}/#/experiments/{experiment}/runs/{run_id}" if self._page else nothing.line
        picture = next((name for name in PICTURES if name in artifacts), None)
        return Report(line, None if picture is None else self._picture(run_id, picture))

    def _picture(self, run_id: str, name: str) -> Path | None:
        assert self._client is not None
        try:
            return Path(self._client.download_artifacts(run_id, name, str(self._new_folder())))
        except Exception:
            return None


def web_page(uri: str) -> str:
    """A web address without user, password, query and fragment; empty where it is none."""
    try:
        parts, port = urlsplit(uri), urlsplit(uri).port
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = f"{host}:{port}" if port else host
    return urlunsplit((parts.scheme, place, parts.path.rstrip("/"), "", ""))
