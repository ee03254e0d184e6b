"""`python -m serving keys`: make, list and revoke API keys."""

import re
import sys
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from records.settings import RecordsSettings
from resunet.errors import SettingsError
from serving.access.keyfile import make_private
from serving.access.keys import Key, KeyStore, is_valid, keys_path, utc_now
from serving.access.scopes import SCOPES, parse_scopes
from serving.errors import KeysError

app = typer.Typer(
    no_args_is_help=True,
    help=(
        "API keys of the gateway: who may ask it, for what, until when. They are kept, hashed, in "
        "RESUNET_HOME/gateway/keys.json; a running gateway follows every change. Without a key it serves this machine "
        "alone."
    ),
)

_LIFETIME: Final = re.compile(r"([1-9][0-9]{0,4})([hd])")
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
# As long as names are, no row of a file or pipe is broken in two.
_PIPE_WIDTH: Final = 240
_UNITS: Final = {"h": "hours", "d": "days"}


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="who will use it; shown in lists and logs")],
    scope: Annotated[
        list[str], typer.Option(help=f"{', '.join(SCOPES)} (which includes the others); repeat it for several")
    ],
    expires: Annotated[
        str, typer.Option(help="90d or 36h from now, or the last day, 2027-01-31 (UTC)", show_default="never")
    ] = "",
) -> None:
    """Make a key and print its token, once: only a hash of it is kept, and a lost one is replaced, not found.

    The token alone goes to stdout, so that it can be piped to where secrets are kept. To exchange a key without a
    pause, add a second one of the same name, hand it over, and revoke the first by its id. The new one is another
    caller: it cannot label what the old one asked for.

    Example: python -m serving keys add clinic --scope predict --scope labels --expires 90d > clinic.key
    """
    now = utc_now()
    store = _store()
    scopes, until = parse_scopes(scope), parse_expiry(expires, now)
    make_private(store.path.parent)
    key, token = store.add(name, scopes, until)
    try:
        sys.stdout.write(f"{token}\n")
        sys.stdout.flush()
    except OSError as error:
        store.revoke(key.id)
        raise KeysError(
            f"the token could not be printed ({error.strerror}), so its key was revoked: try again"
        ) from None
    told = "never expires" if until is None else f"expires {_moment(until)} UTC"
    _say(f"key {key.id} for {key.name}: {', '.join(sorted(key.scopes))}; {told}. Its token is shown this once")


@app.command("list")
def list_keys() -> None:
    """Show all keys, the oldest first, also those that were revoked or have expired: never a token.

    Example: python -m serving keys list
    """
    keys, now = _store().list(), utc_now()
    if not keys:
        _say("there are no keys: the gateway answers this machine without one, and no other")
        return
    table = Table(Column("id", no_wrap=True), "name", "scopes", "made (UTC)", "expires (UTC)", "state")
    for key in keys:
        made, ends = _moment(key.created), "never" if key.expires is None else _moment(key.expires)
        told = (key.id, key.name, ", ".join(sorted(key.scopes)), made, ends, _state(key, now))
        # Text: in a name rich is to find no markup.
        table.add_row(*map(Text, told))
    console = Console(highlight=False)
    (console if console.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)).print(table)


@app.command()
def revoke(
    which: Annotated[str, typer.Argument(metavar="ID", help="id or name as `keys list` shows it, or the token")],
) -> None:
    """End a key: running gateways refuse it from their next request on. There is no way back but a new key.

    Example: python -m serving keys revoke 3f9c04d1a2b7
    """
    key = _store().revoke(which)
    when = key.revoked or utc_now()
    _say(f"key {key.id} of {key.name} is revoked since {_moment(when)} UTC")


def parse_expiry(text: str, now: datetime) -> datetime | None:
    """When a key ends, as somebody types it.

    Args:
        text: `90d`, `36h`, or a date, the end of whose UTC day is meant; empty: never.
        now: aware.

    Raises:
        SettingsError: it is none of these, or not in the future.
    """
    text = text.strip()
    if not text:
        return None
    try:
        if lifetime := _LIFETIME.fullmatch(text.lower()):
            return now + timedelta(**{_UNITS[lifetime[2]]: int(lifetime[1])})
        if _DAY.fullmatch(text):
            ends = datetime.fromisoformat(text).replace(tzinfo=UTC) + timedelta(days=1)
            if ends > now:
                return ends
    except (ValueError, OverflowError):
        pass
    raise SettingsError(
        "--expires is a time from now such as 90d or 36h, or a day that is not over, such as 2027-01-31"
    )


def _store() -> KeyStore:
    return KeyStore(keys_path(RecordsSettings.load().home))


def _state(key: Key, now: datetime) -> str:
    if key.revoked is not None:
        return f"revoked {_moment(key.revoked)}"
    return "valid" if is_valid(key, now) else "expired"


def _moment(when: datetime) -> str:
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M}"


def _say(sentence: str) -> None:
    Console(stderr=True).print(sentence, markup=False, highlight=False, soft_wrap=True)
