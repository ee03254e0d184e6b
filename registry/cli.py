"""`python -m registry`: promote, roll back and look at the versions of a model."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy import Engine

from records import audit as audit_records
from records.database import open_database
from records.settings import RecordsSettings
from registry import promotion, signing, tables
from registry.decisions import utc_now
from registry.mending import mend as mend_model
from registry.settings import RegistrySettings
from registry.versions import collect, model_names, read_model
from resunet.errors import RecordsError, SettingsError, StoreError

app = typer.Typer(
    no_args_is_help=True,
    help="Move versions between stages, and see who moved what. The server is MLFLOW_TRACKING_URI.",
)

Name = Annotated[str, typer.Argument(help="registered model, such as resunet")]
Version = Annotated[str, typer.Argument(help="version number")]
Reason = Annotated[str, typer.Option(help="why; kept in the records")]
Actor = Annotated[str, typer.Option(help="who decides", default_factory=tables.local_actor, show_default="you")]


@app.command()
def promote(
    name: Name,
    version: Version,
    stage: Annotated[str, typer.Argument(help="Staging or Production")],
    actor: Actor,
    reason: Reason = "",
) -> None:
    """Move a version to Staging or Production if its gates pass; what was there is archived.

    Example: python -m registry promote resunet 3 Production --reason "trained on the new stain"
    """
    with _tracking() as client:
        change = promotion.promote(client, _records(), name, version, stage, actor, reason, utc_now)
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
    with _tracking() as client:
        change = promotion.rollback(client, _records(), name, actor, reason, utc_now, version=version or None)
    tables.say_change(tables.make_console(), change)


@app.command()
def archive(name: Name, version: Version, actor: Actor, reason: Reason = "") -> None:
    """Take a version out of use; when it is the live one, nothing is live afterwards."""
    with _tracking() as client:
        change = promotion.archive(client, _records(), name, version, actor, reason, utc_now)
    tables.say_change(tables.make_console(), change)


@app.command()
def status(
    actor: Actor,
    name: Annotated[str | None, typer.Argument(help="registered model; all when left out")] = None,
    mend: Annotated[bool, typer.Option(help="let aliases follow stages, write down unrecorded moves")] = False,
) -> None:
    """Show where every version stands, and what does not fit together."""
    console = tables.make_console()
    with _tracking() as client:
        records = _records()
        names = [name] if name else model_names(client)
        if not names:
            console.print("there is no registered model yet; `mlflow run . -e train` makes one")
        for one in names:
            mended = mend_model(client, records, one, actor, utc_now) if mend else []
            found = promotion.status(client, records, one)
            console.print(tables.status_table(found))
            tables.say_notices(console, [*mended, *(f"mismatch: {text}" for text in found.mismatches)])
            if found.mismatches:
                command = f"python -m registry status {one} --mend"
                console.print(f"mend it with: {command}", markup=False, soft_wrap=True)
        tables.say_notices(console, [promotion.UNPROTECTED])


@app.command()
def show(name: Name, version: Version) -> None:
    """Show one version: its tags, its evaluation, and whether its files are those that were made."""
    console = tables.make_console()
    with _tracking() as client:
        row = read_model(client, name).row(version)
        try:
            evidence = collect(client, name, row.version, RegistrySettings.load().trusted_key)
        except StoreError:
            console.print(tables.show_table(row, None))
            raise
    console.print(tables.show_table(row, evidence.evaluation))
    if evidence.damage or evidence.problem:
        tables.say_notices(console, [evidence.damage or evidence.problem])


@app.command()
def keygen(
    folder: Annotated[Path, typer.Argument(help="where the two keys go; nothing is overwritten")],
) -> None:
    """Make a key pair to sign versions with."""
    private, public = signing.keygen(folder)
    console = tables.make_console()
    console.print(f"private key: {private}  (readable by you alone; keep it secret)", markup=False, soft_wrap=True)
    console.print(f"public key:  {public}  (promotion trusts it by RESUNET_TRUSTED_KEY)", markup=False, soft_wrap=True)


@app.command()
def audit(
    name: Annotated[str | None, typer.Argument(help="registered model; all when left out")] = None,
    verify: Annotated[bool, typer.Option(help="check that no row was changed or removed")] = False,
    noted: Annotated[
        str, typer.Option(help="SEQ:HASH of an earlier --verify, kept elsewhere: the chain must still hold that row")
    ] = "",
) -> None:
    """List who decided what, when and why; with --verify, check the chain of rows."""
    console = tables.make_console()
    kept = _parse_head(noted) if noted else None
    records = _records()
    if not verify and kept is None:
        console.print(tables.audit_table(audit_records.history(records, name)))
        return
    broken = audit_records.verify(records, kept)
    if broken is not None:
        raise RecordsError(
            f"the chain of decisions is broken at row {broken.seq}: {broken.why}. "
            "Find out who can write to the database, and restore it from a backup"
        )
    head = audit_records.head(records)
    told = f"{head.seq} rows, the last is {head.seq}:{head.row_hash}" if head else "no row yet"
    console.print(f"the chain of decisions holds: {told}", markup=False, soft_wrap=True)
    if head is not None:
        again = f"--noted {head.seq}:{head.row_hash}"
        console.print(f"keep that outside of the database, and give it next time: {again}", style="dim", soft_wrap=True)


def _parse_head(text: str) -> audit_records.Head:
    found = re.fullmatch(r"([1-9][0-9]{0,8}):([0-9a-f]{64})", text.strip())
    if found is None:
        raise SettingsError(f"--noted: {text!r} is not SEQ:HASH as `python -m registry audit --verify` prints it")
    return audit_records.Head(int(found[1]), found[2])


def _records() -> Engine:
    return open_database(RecordsSettings.load().database_url)


@contextmanager
def _tracking() -> Iterator[MlflowClient]:
    # MLflow's own default waits minutes before it says that a server is not there.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    client = MlflowClient()
    try:
        yield client
    except MlflowException as error:
        address = urlsplit(client.tracking_uri)
        server = f"{address.scheme}://{address.hostname}:{address.port}" if address.hostname else client.tracking_uri
        said = str(error).replace(address.password, "***") if address.password else str(error)
        raise SettingsError(f"the tracking server {server} says: {said}. Is MLFLOW_TRACKING_URI right?") from error
