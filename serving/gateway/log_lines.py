"""The gateway's own log, on stderr: one JSON object a line for machines, or lines for people.

write_log(as_json=True)
"""

import logging
import sys

from pythonjsonlogger.json import JsonFormatter


def write_log(as_json: bool) -> None:
    """Have all that is logged in this process written so; libraries are heard from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_json() if as_json else _Line("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    mlflow = logging.getLogger("mlflow")  # it writes lines of its own form, by a handler of its own
    mlflow.handlers.clear()
    mlflow.propagate = True
    mlflow.setLevel(logging.WARNING)
    for name in ("serving", "records"):
        logging.getLogger(name).setLevel(logging.INFO)


def _json() -> logging.Formatter:
    return JsonFormatter(
        "%(asctime)s %(levelname)s %(name)s %(message)s",
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        datefmt="%Y-%m-%dT%H:%M:%S%z",
    )


class _Line(logging.Formatter):
    """A line for a terminal; of a request with its route, status and time."""

    def format(self, record: logging.LogRecord) -> str:
        """As of logging."""
        line = super().format(record)
        if not hasattr(record, "route"):
            return line
        seen = vars(record)
        return f"{line} {seen['method']} {seen['route']} {seen['status']} {seen['milliseconds']:.0f} ms"
