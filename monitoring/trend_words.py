"""How a trend reads in a terminal."""

from rich.table import Table

from monitoring.trend import TrendAnswer
from monitoring.words import MOVED, label, number

_SHOWN = 8


def trend_table(answer: TrendAnswer) -> Table:
    """The largest changes, for a terminal of 80 columns."""
    question = answer.question
    table = Table(
        title=f"{question.version}, {question.span}, {answer.windows} windows, {answer.rows:,} images",
        title_justify="left",
        caption=(
            f"{MOVED} a trend: p (for all descriptors together) at most {question.alpha:g}, and a change of at least "
            f"{question.min_change:g} standard deviations from the first third of the windows to the last."
        ),
        caption_justify="left",
    )
    table.add_column("descriptor", no_wrap=True)
    for heading in ("p-value", "change", "in SD"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("most since", no_wrap=True)
    for one in answer.columns[:_SHOWN]:
        table.add_row(
            f"{MOVED if one.alarm else ' '} {label(one.column)}",
            f"{one.p_value:.1e}",
            number(one.change),
            f"{one.deviations:+.2f}",
            f"{one.turned:%Y-%m-%d %H:%M}",
            style="bold red" if one.alarm else "dim",
        )
    return table
