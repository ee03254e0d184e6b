"""`python -m registry audit`: who decided what, when and why."""

# Only what `--help` needs is imported here: MLflow takes seconds.
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TextIO

import typer
from typer.core import TyperGroup

from records.audit import Wanted
from registry import tables
from registry.reports.audit import audit_table, parse_head, parse_moment, write_csv, write_json
from resunet.errors import RecordsError, SettingsError

if TYPE_CHECKING:
    from registry.reports.reader import Trail

# More rows than this are more than anybody reads on a screen.
SCREEN: Final = 200


class ListsByDefault(TyperGroup):
    """`audit`, `audit resunet` and `audit --actor ada` mean `audit list …`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=ListsByDefault, help="List who decided what, when and why; check that no row was changed.")


@app.command("list")
def list_rows(
    name: Annotated[str | None, typer.Argument(help="registered model; all when left out")] = None,
    version: Annotated[str, typer.Option(help="only decisions on this version")] = "",
    actor: Annotated[str, typer.Option(help="only decisions of this person or program")] = "",
    action: Annotated[str, typer.Option(help="only these: promote, refuse, rollback, override, archive, …")] = "",
    since: Annotated[str, typer.Option(help="from this moment on: 2026-11-01, 2026-11-01T12:00 (UTC), 36h, 7d")] = "",
    until: Annotated[str, typer.Option(help="before this moment; a date means the whole of that day")] = "",
    last: Annotated[int | None, typer.Option(min=0, help=f"so many of the newest; 0: all; on screen {SCREEN}")] = None,
    csv_file: Annotated[str, typer.Option("--csv", help="write them to this file as CSV; - is the output")] = "",
    json_file: Annotated[str, typer.Option("--json", help="write them to this file as JSON; - is the output")] = "",
) -> None:
    """List decisions, the oldest first, or export them; `audit …` alone does the same.

    Example: python -m registry audit resunet --action refuse --since 7d --csv refusals.csv
    """
    if csv_file == json_file == "-":
        raise SettingsError("--csv and --json: only one of them can have the output")
    now = datetime.now(UTC)
    number = str(int(version)) if version.strip().isdecimal() else version
    wanted = Wanted(
        model_name=name or None,
        version=number or None,
        actor=actor or None,
        action=action or None,
        since=parse_moment(since, "--since", now),
        until=parse_moment(until, "--until", now, ends=True),
    )
    exports = bool(csv_file or json_file)
    newest = (None if exports else SCREEN) if last is None else last or None
    with _trail() as trail:
        # One more than wanted says whether any is left out.
        rows = trail.rows(wanted, None if newest is None else newest + 1)
    left_out = newest is not None and len(rows) > newest
    rows = rows[-newest:] if left_out and newest is not None else rows
    for target, write in ((csv_file, write_csv), (json_file, write_json)):
        if target:
            with _output(target) as stream:
                write(rows, stream)
    if exports:
        return
    console = tables.make_console()
    console.print(audit_table(rows))
    if left_out:
        tables.say_notices(
            console, [f"older rows are left out: --last 0 shows all, --last N the newest N (now {newest})"]
        )


@app.command()
def verify(
    noted: Annotated[
        str, typer.Option(help="SEQ:HASH of an earlier verify, kept elsewhere: the chain must still hold that row")
    ] = "",
) -> None:
    """Check that no row was changed, removed, added or moved; exit code 2 where one was."""
    console = tables.make_console()
    kept = parse_head(noted) if noted else None
    with _trail() as trail:
        chain = trail.verify(kept)
    if chain.broken is not None:
        raise RecordsError(
            f"the chain of decisions is broken at row {chain.broken.seq}: {chain.broken.why}. "
            "Find out who can write to the database, and restore it from a backup"
        )
    head = chain.head
    told = f"{head.seq} rows, the last is {head.seq}:{head.row_hash}" if head else "no row yet"
    console.print(f"the chain of decisions holds: {told}", markup=False, soft_wrap=True)
    if head is not None:
        again = f"--noted {head.seq}:{head.row_hash}"
        console.print(f"keep that outside of the database, and give it next time: {again}", style="dim", soft_wrap=True)


@contextmanager
def _trail() -> Iterator["Trail"]:
    from registry.connection import tracking_uri
    from registry.reports.opening import open_trail

    with tracking_uri() as uri:
        yield open_trail(uri)


@contextmanager
def _output(target: str) -> Iterator[TextIO]:
    """A file to write to, or the output itself.

    Raises:
        SettingsError: it cannot be written.
    """
    if target == "-":
        yield sys.stdout
        return
    try:
        with Path(target).open("w", encoding="utf-8", newline="") as stream:
            yield stream
    except OSError as error:
        raise SettingsError(f"{target} cannot be written: {error.strerror}; write elsewhere") from error
