"""`python -m serving rollout`: roll a version out beside the one that is live; a running gateway does it."""

import json
import os
from typing import Annotated, Any, Final, Literal

import httpx
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from resunet.errors import SettingsError
from serving.rollout.state import RolloutError

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "Roll out what is in Staging beside what is in Production: first it answers for nobody (shadow), then a "
        "growing share of the callers (canary), and it is taken back by itself when it does harm. How, says the policy "
        "(RESUNET_GATEWAY_ROLLOUT_POLICY); a running gateway does it."
    ),
)
_KEY: Final = "RESUNET_KEY"
_SECONDS: Final = 320.0

Gateway = Annotated[str, typer.Option(help="address of the gateway", envvar="RESUNET_GATEWAY_URL")]
Reason = Annotated[str, typer.Option(help="why; kept in the rollout's history")]
AsJson = Annotated[bool, typer.Option("--json", help="print all of it as JSON, for programs")]
_GATEWAY: Final = "http://127.0.0.1:8000"


@app.command()
def start(gateway: Gateway = _GATEWAY, reason: Reason = "", as_json: AsJson = False) -> None:
    """Begin: the version in Staging beside the one in Production, from the policy's first stage on.

    Where the gateway has keys, RESUNET_KEY has to hold one of the scope admin.

    Example: python -m serving rollout start --reason "trained on the new stain"
    """
    _show(_ask("POST", gateway, "/start", reason), as_json)


@app.command()
def status(gateway: Gateway = _GATEWAY, as_json: AsJson = False) -> None:
    """Show where it is, what was found out, and what it still waits for.

    Where the gateway has keys, RESUNET_KEY has to hold one of the scope metrics or admin.

    Example: python -m serving rollout status
    """
    _show(_ask("GET", gateway, ""), as_json)


@app.command()
def finish(gateway: Gateway = _GATEWAY, reason: Reason = "", as_json: AsJson = False) -> None:
    """Promote the candidate now, whatever was found out; the registry's gates have their say.

    They may measure for minutes: `rollout status` tells what came of it.

    Example: python -m serving rollout finish --reason "agreed with the lab"
    """
    _show(_ask("POST", gateway, "/finish", reason), as_json)


@app.command()
def abort(gateway: Gateway = _GATEWAY, reason: Reason = "", as_json: AsJson = False) -> None:
    """Take the candidate back: whoever is in Production answers everybody again.

    Example: python -m serving rollout abort --reason "the masks look odd"
    """
    _show(_ask("POST", gateway, "/abort", reason), as_json)


def _ask(method: Literal["GET", "POST"], gateway: str, path: str, reason: str = "") -> dict[str, Any]:
    key = os.environ.get(_KEY, "")
    if not (key.isascii() and key.isprintable()):
        raise SettingsError(f"{_KEY} holds what no key has: copy the line that `python -m serving keys add` printed")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = None if method == "GET" else {"reason": reason}
    try:
        answer = httpx.request(
            method, f"{gateway.rstrip('/')}/rollout{path}", json=body, headers=headers, timeout=_SECONDS
        )
        told = answer.json()
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise SettingsError(f"{gateway!r} is no address of a gateway: write http://127.0.0.1:8000") from error
    except httpx.HTTPError as error:
        raise RolloutError(
            f"no gateway answers at {gateway} ({type(error).__name__}): start one with `python -m serving up`, or name "
            "it with --gateway"
        ) from error
    except ValueError as error:
        raise RolloutError(f"what answers at {gateway} is no gateway: name one with --gateway") from error
    if answer.status_code in (401, 403):
        raise RolloutError(f"{told['message']} (the key is read from {_KEY})")
    if answer.status_code != 200:
        raise RolloutError(str(told.get("message", f"the gateway answered {answer.status_code}")))
    return dict(told)


def _show(told: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    console = Console()
    for line in in_words(told):
        console.print(line, highlight=False)


def in_words(told: dict[str, Any]) -> list[Text | Table]:
    """A rollout's status as a person reads it.

    Args:
        told: of `serving.rollout.status`.
    """
    lines: list[Text | Table] = []
    if told["policy_error"]:
        lines.append(Text(told["policy_error"], "red"))
    if told["phase"] == "idle":
        return [*lines, Text("no rollout: `rollout start` begins one")]
    last, share = told["events"][-1], told["canary"] or told["shadow"]
    answers = f", answers {share:.2%} {'of the callers' if told['canary'] else 'of the requests, for nobody'}"
    lines.append(
        Text(
            f"version {told['candidate']['number']} beside version {told['champion']['number']}: {told['phase']}"
            f"{answers if share else ''}"
        )
    )
    lines.append(Text(f"{last['at'][:19]} UTC: {last['reason']}"))
    if "routes" in told:
        lines.append(_routes(told))
    if "findings" not in told:
        return lines
    if told["findings"]:
        lines.append(_findings(told["findings"]))
    waits = "; ".join(told["waiting"])
    return [*lines, Text(f"waits for: {waits}")] if waits else lines


def _routes(told: dict[str, Any]) -> Table:
    table = Table("answered by", "requests", "failed", "p50", "p95", "confidence")
    names = {"production": "champion", "canary": "candidate", "shadow": "candidate, for nobody"}
    for route, seen in told["routes"].items():
        if seen["requests"]:
            latency = (_number(seen["latency_ms"][name], "{:.0f} ms") for name in ("p50", "p95"))
            confidence = _number(seen["confidence"]["mean"], "{:.3f}")
            table.add_row(names[route], str(seen["requests"]), str(seen["errors"]), *latency, confidence)
    agreement = told["agreement"]
    if agreement["count"]:
        smallest = _number(agreement["smallest"], "{:.3f}")
        table.caption = f"Dice between both masks: {agreement['mean']:.3f} on average, at worst {smallest}"
    return table


def _findings(findings: list[dict[str, Any]]) -> Table:
    table = Table("compared", "so far", "verdict")
    for finding in findings:
        verdict = "HARM" if finding["harm"] else "ruled out" if finding["ruled_out"] else "not yet"
        table.add_row(finding["metric"], finding["told"].removeprefix(f"{finding['metric']}: "), verdict)
    return table


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)
