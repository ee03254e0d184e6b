"""`alerts list`: a table of what fires and what is about to, for a terminal.

Console().print(alert_table(open_alerts(engine), datetime.now(UTC)))
"""

from collections.abc import Sequence
from datetime import datetime

from rich.table import Table
from rich.text import Text

from monitoring.alerts.words import about, lasted, one_line
from records.watch.alerts import Alert


def alert_table(alerts: Sequence[Alert], now: datetime) -> Table:
    """A row for each."""
    table = Table(show_lines=True)
    for heading in ("ID", "state", "for"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what was seen")
    for alert in alerts:
        acknowledged = f"acknowledged by {alert.acknowledged_by}: {alert.acknowledged_reason}"
        seen = [f"{alert.policy}: {about(alert)}", alert.summary, alert.subject if alert.model_name else ""]
        seen.append(acknowledged if alert.acknowledged_by else "")
        table.add_row(
            str(alert.id),
            f"{alert.status}\n{alert.severity}",
            lasted(now - alert.since) if alert.since else "",
            Text("\n".join(one_line(line) for line in seen if line)),
            style="bold red" if alert.status == "firing" and not alert.acknowledged_by else "",
        )
    return table
