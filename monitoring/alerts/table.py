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
    table = Table("ID", "state", "policy", "of", "for", "what was seen")
    for alert in alerts:
        acknowledged = f"acknowledged by {alert.acknowledged_by}: {alert.acknowledged_reason}"
        seen = [alert.summary, alert.subject, *([acknowledged] if alert.acknowledged_by else [])]
        table.add_row(
            str(alert.id),
            Text(alert.status if alert.status == "pending" else f"{alert.status}, {alert.severity}"),
            Text(alert.policy),
            Text(about(alert)),
            lasted(now - alert.since) if alert.since else "",
            Text("\n".join(one_line(line) for line in seen)),
            style="bold red" if alert.status == "firing" and not alert.acknowledged_by else "",
        )
    return table
