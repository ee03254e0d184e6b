"""`python -m registry`: promote, roll back and look at the versions of a model."""

# Only what `--help` needs is imported here: MLflow takes seconds.
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from registry import tables
from registry.people import Actor as Asking
from registry.reports import cli as reports
from registry.reports.audit_cli import app as audit
from registry.settings import RegistrySettings
from resunet.errors import SettingsError

if TYPE_CHECKING:
    from registry.desk import Desk

BLOCKED = 3

app = typer.Typer(
    no_args_is_help=True,
    help="Move versions between stages, and see who moved what. The server is MLFLOW_TRACKING_URI.",
)

Name = Annotated[str, typer.Argument(help="registered model, such as resunet")]
Version = Annotated[str, typer.Argument(help="version number")]
Reason = Annotated[str, typer.Option(help="why; kept in the records")]
Actor = Annotated[str, typer.Option(help="who decides", default_factory=tables.local_actor, show_default="you")]


@contextmanager
def _desk() -> Iterator["Desk"]:
    from registry.connection import tracking
    from registry.desk import open_desk

    with tracking() as client:
        yield open_desk(client)


@app.command()
def check(
    name: Name,
    version: Version,
    actor: Actor,
    stage: Annotated[str, typer.Option(help="Staging or Production")] = "Production",
    measure: Annotated[bool, typer.Option(help="measure what is missing; else judge what there is")] = True,
    data: Annotated[str, typer.Option(help="data set to measure on; default: the one it was trained from")] = "",
) -> None:
    """Measure what is missing of a version, ask its gates, and print what they say.

    Exit code: 0 it may go there, 3 a gate blocks, 2 an error.

    Example: python -m registry check resunet 7 --stage Production
    """
    from registry.checking import check as run_check

    console = tables.make_console()
    with _desk() as desk:
        judgement = run_check(desk, name, version, stage, Asking(actor), console, measure, data)
    tables.say_judgement(console, judgement)
    if not judgement.allowed:
        raise typer.Exit(BLOCKED)


@app.command()
def promote(
    name: Name,
    version: Version,
    stage: Annotated[str, typer.Argument(help="Staging or Production")],
    actor: Actor,
    reason: Reason = "",
    override: Annotated[
        bool, typer.Option("--override", help="go past gates that block; asks for that role and a reason")
    ] = False,
) -> None:
    """Move a version to Staging or Production if its gates pass; what was there is archived.

    Example: python -m registry promote resunet 3 Production --reason "trained on the new stain"
    """
    with _desk() as desk:
        change = desk.promote(name, version, stage, Asking(actor), reason, override)
    tables.say_change(tables.make_console(), change)


@app.command()
def rollback(
    name: Name,
    actor: Actor,
    reason: Reason = "",
    version: Annotated[
        str, typer.Option(help="go back to this one; needed where the records know of no version that was live")
    ] = "",
) -> None:
    """Put back the version that was live before this one."""
    with _desk() as desk:
        change = desk.rollback(name, Asking(actor), reason, version or None)
    tables.say_change(tables.make_console(), change)


@app.command()
def archive(name: Name, version: Version, actor: Actor, reason: Reason = "") -> None:
    """Take a version out of use; when it is the live one, nothing is live afterwards."""
    with _desk() as desk:
        change = desk.archive(name, version, Asking(actor), reason)
    tables.say_change(tables.make_console(), change)


@app.command()
def approve(
    name: Name,
    version: Version,
    actor: Actor,
    stage: Annotated[str, typer.Option(help="Staging or Production")] = "Production",
    reason: Reason = "",
) -> None:
    """Say that you looked at a version and agree; for the gate `approved`, on a server that asks for passwords."""
    with _desk() as desk:
        change = desk.approve(name, version, stage, Asking(actor), reason)
    tables.say_change(tables.make_console(), change)


@app.command()
def status(
    actor: Actor,
    name: Annotated[str | None, typer.Argument(help="registered model; all when left out")] = None,
    mend: Annotated[bool, typer.Option(help="let aliases follow stages, write down unrecorded moves")] = False,
) -> None:
    """Show where every version stands, and what does not fit together."""
    from registry.connection import tracking
    from registry.desk import open_desk
    from registry.versions import model_names, read_model

    console = tables.make_console()
    with tracking() as client:
        desk = open_desk(client)
        names = [name] if name else model_names(client)
        if not names:
            console.print("there is no registered model yet; `mlflow run . -e train` makes one")
        for one in names:
            mended = desk.mend(one, Asking(actor)) if mend else []
            found = desk.status(one)
            console.print(tables.status_table(found, read_model(client, one)))
            tables.say_notices(console, [*mended, *(f"mismatch: {text}" for text in found.mismatches)])
            if found.mismatches:
                command = f"python -m registry status {one} --mend"
                console.print(f"mend it with: {command}", markup=False, soft_wrap=True)
            tables.say_notices(console, found.notices)


@app.command()
def policy(
    file: Annotated[Path | None, typer.Argument(help="a policy; default: the one that holds here")] = None,
) -> None:
    """Read a policy, name the line of a mistake, and print what holds."""
    from registry.policy import load_policy

    found = load_policy(file or RegistrySettings.load().policy)
    tables.say_policy(tables.make_console(), found)


@app.command()
def gates() -> None:
    """List the gates that a policy can name, and their settings."""
    from registry.gates import find_gate, known_gates

    tables.make_console().print(tables.gates_table([gate for name in known_gates() if (gate := find_gate(name))]))


@app.command()
def keygen(
    folder: Annotated[str, typer.Argument(help="where the two keys go; nothing is overwritten")],
) -> None:
    """Make a key pair to sign versions with."""
    from registry import signing

    if not folder.strip():  # a shell's variable that is not set, say: as a path it would be the working folder
        raise SettingsError("say where the two keys go: the name of the folder is empty")
    private, public = signing.keygen(Path(folder))
    console = tables.make_console()
    console.print(f"private key: {private}  (readable by you alone; keep it secret)", markup=False, soft_wrap=True)
    console.print(f"public key:  {public}  (promotion trusts it by RESUNET_TRUSTED_KEY)", markup=False, soft_wrap=True)


app.add_typer(audit, name="audit")
reports.add_to(app)
