"""`python -m monitoring alerts`: look, list, acknowledge, and try the way to the people who are told."""

# Only what `--help` needs is imported here: MLflow takes seconds.
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from monitoring.alerts.policy import Policy
    from monitoring.alerts.recipients import Recipients
    from records.watch.alerts import Alert

app = typer.Typer(
    no_args_is_help=True,
    help="Tell people when a policy's condition holds, once, and when it has recovered.",
)

_FIRING: Final = 3
_ERROR: Final = 2

PolicyFile = Annotated[
    Path | None,
    typer.Option("--policy", help="File of policies. [default: RESUNET_MONITORING_ALERTS, else those of the platform]"),
]


@app.command()
def check(policy: PolicyFile = None) -> None:
    """Look once at everything that the policies name, and tell who is to be told.

    Exit code: 0 nothing fires, 3 something does, 2 something could not be looked at or not be told.
    """
    from monitoring.alerts.check import check as look
    from monitoring.alerts.recipients import Recipients
    from monitoring.alerts.sources import Sources
    from records.settings import RecordsSettings

    policies, recipients = _policies(policy), Recipients(os.environ)
    engine = _engine()
    sources = Sources.of_platform(engine, RecordsSettings.load().home)
    # Somebody who tries a file of their own does not end the alerts of the others.
    checked = look(sources, policies, recipients.places, datetime.now(UTC), others_are_gone=policy is None)
    problems = [*checked.problems, *_deliver(engine, recipients, policies)]
    _say_firing(checked.firing)
    _say_nobody(policies, recipients)
    for problem in problems:
        _console(stderr=True).print(problem, markup=False, style="red")
    raise typer.Exit(_ERROR if problems else _FIRING if checked.firing else 0)


@app.command(name="list")
def list_alerts() -> None:
    """Show what fires and what is about to."""
    from monitoring.alerts.retraining import told
    from monitoring.alerts.table import alert_table
    from records.watch.alerts import open_alerts
    from records.watch.orders import read_orders

    engine = _engine()
    alerts = open_alerts(engine)
    if not alerts:
        typer.echo("nothing fires, and nothing is about to")
    else:
        Console().print(alert_table(alerts, datetime.now(UTC)))
    for order in read_orders(engine):
        if order.state in ("open", "running"):
            _console().print(told(engine, order), markup=False)


@app.command()
def orders(
    model: Annotated[str | None, typer.Option(help="Of this model alone. [default: of all]")] = None,
) -> None:
    """Show the retrainings that alerts have ordered: what they wait for, and what became of them."""
    from monitoring.alerts.retraining import told
    from records.watch.orders import read_orders

    engine = _engine()
    found = read_orders(engine, model)
    for order in found:
        _console().print(told(engine, order), markup=False)
    if not found:
        typer.echo("no alert has ordered a retraining")


@app.command(name="carry-out")
def carry_out(model: Annotated[str, typer.Option(help="Registered model.")] = "resunet") -> None:
    """Carry out the retraining that an alert has ordered, if something was released for it; the schedule does so.

    Exit code: 0 it is done, or there is nothing to do, 2 it failed: the next one tries again, or an error.
    """
    from monitoring.alerts.carry_out import by_command
    from monitoring.alerts.carry_out import carry_out as run
    from monitoring.alerts.recipients import Recipients
    from records.released import ReleasedStore
    from records.settings import RecordsSettings

    engine, recipients = _engine(), Recipients(os.environ)
    store = ReleasedStore(RecordsSettings.load().home)
    policies = _policies(None)
    now = {policy.name: policy.promotes if policy.retrain is not None else None for policy in policies}
    promotes = lambda order: now.get(order.policy)  # noqa: E731
    done = run(engine, model, by_command, recipients.places, lambda: datetime.now(UTC), store.batches, promotes)
    # What is not told now is told by the next check.
    _deliver(engine, recipients, policies)
    _console(stderr=done.failed).print(done.line, markup=False, style="red" if done.failed else "")
    if done.failed:
        raise typer.Exit(_ERROR)


@app.command()
def acknowledge(
    number: Annotated[int, typer.Argument(metavar="ID", help="Of the alert, as `alerts list` shows it.")],
    reason: Annotated[str, typer.Option(help="What is known of it, or what comes of it.")],
    name: Annotated[str | None, typer.Option("--as", help="Who says so. [default: the system's user]")] = None,
) -> None:
    """Say that somebody sees to an alert: it is not repeated any more until it has recovered.

    Example: python -m monitoring alerts acknowledge 12 --reason "the new stain; labels are on the way"
    """
    from monitoring.alerts.words import one_line
    from records.watch.alerts import Acknowledgement
    from records.watch.alerts import acknowledge as note
    from resunet.errors import SettingsError

    who, why = one_line(name if name is not None else _you()), one_line(reason)
    if not who or not why:
        raise SettingsError('an acknowledgement has a name and a reason: write --reason "…", and --as if need be')
    alert = note(_engine(), number, Acknowledgement(who, why, datetime.now(UTC)))
    _console().print(f"alert {number}, {alert.policy}: acknowledged by {who}; recovery is still told", markup=False)


@app.command()
def test(
    to: Annotated[
        list[str] | None,
        typer.Option(help="Names of recipients; repeatable. [default: all that the policies name]"),
    ] = None,
    policy: PolicyFile = None,
) -> None:
    """Send a message to everybody who would be told, and say who took it.

    Exit code: 0 all of them, 2 not all, or there is nobody.
    """
    from monitoring.alerts.recipients import Recipients
    from monitoring.alerts.trial import trial

    names = to or [name for one in _policies(policy) for name in one.alert.to]
    told = trial(Recipients(os.environ), names, datetime.now(UTC))
    for line in told.lines:
        _console(stderr=not told.all_took_it).print(line, markup=False)
    raise typer.Exit(0 if told.all_took_it else _ERROR)


@app.command()
def policy(
    check: Annotated[Path | None, typer.Option(help="Say whether this file makes sense.")] = None,
    show: Annotated[bool, typer.Option("--print", help="Print the file that holds, comments and all.")] = False,
) -> None:
    """Check a file of policies, or print the one that holds.

    Example: python -m monitoring alerts policy --print > alerts.yaml
    """
    from monitoring.alerts.policy import load_policies, policy_text
    from monitoring.alerts.recipients import AlertSettings
    from resunet.errors import SettingsError

    if (check is None) != show:
        raise SettingsError("say what to do: --check FILE, or --print")
    if check is None:
        typer.echo(policy_text(AlertSettings.load().alerts), nl=False)
        return
    policies = load_policies(check)
    _console().print(f"{check}: {len(policies)} policies make sense", markup=False)
    for one in policies:
        _console().print(f"  {one.name}: {one.when.name}, tells {', '.join(one.alert.to)}", markup=False)


def register(parent: typer.Typer) -> None:
    """Make these commands part of another's."""
    parent.add_typer(app, name="alerts")


def _policies(path: Path | None) -> "tuple[Policy, ...]":
    from monitoring.alerts.policy import load_policies
    from monitoring.alerts.recipients import AlertSettings

    return load_policies(path or AlertSettings.load().alerts)


def _engine() -> "Engine":
    from monitoring.live import open_log
    from records.settings import RecordsSettings

    return open_log(RecordsSettings.load())


def _deliver(engine: "Engine", recipients: "Recipients", policies: "Sequence[Policy]") -> Sequence[str]:
    from monitoring.alerts.drawing import Drawing
    from monitoring.alerts.reports import Reports
    from monitoring.alerts.telling import deliver
    from records.watch.outbox import waiting

    if not waiting(engine):
        return ()
    # One line a file is for notebooks; and nobody waits minutes for a picture.
    for name, value in {
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    }.items():
        os.environ.setdefault(name, value)
    import mlflow

    from monitoring.tracking import TrackingError, connect

    client, without = None, list[str]()
    try:
        client = connect()
    except TrackingError as error:
        # Words that wait help nobody.
        without.append(f"the message goes out without a link to its report: {error}")
    with Reports(client, mlflow.get_tracking_uri()) as reports, Drawing(engine, policies) as drawing:
        sent = deliver(engine, recipients, reports, lambda: datetime.now(UTC), draw=drawing.of)
    return (*without, *sent.problems)


def _say_firing(alerts: "Sequence[Alert]") -> None:
    from monitoring.alerts.words import about, moment, one_line

    if not alerts:
        _console().print("nothing fires")
    for alert in alerts:
        since = f"since {moment(alert.since)}" if alert.since else ""
        known = f", acknowledged by {one_line(alert.acknowledged_by)}" if alert.acknowledged_by else ""
        _console().print(
            f"{alert.id} {alert.severity} {alert.policy}, {about(alert)}, {since}{known}: {one_line(alert.summary)}",
            markup=False,
        )


def _say_nobody(policies: "Sequence[Policy]", recipients: "Recipients") -> None:
    if not recipients.places(name for policy in policies for name in policy.alert.to):
        _console(stderr=True).print("nobody is told: set RESUNET_NOTIFY to Apprise addresses", markup=False)


def _console(stderr: bool = False) -> Console:
    return Console(stderr=stderr, soft_wrap=True, highlight=False)


def _you() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
