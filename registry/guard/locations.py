"""One way to write where a file is, since MLflow takes many: `file:///a`, `/a/./b`, `mlflow-artifacts:///a`.

    plain("MLFLOW-ARTIFACTS:///1/models/")        # mlflow-artifacts:/1/models
    spellings("mlflow-artifacts:/1/models")       # the same, and what --artifacts-destination makes of it

What is gated must be registered under one of these spellings, so that a few exact comparisons find it. Links are seen
through on both sides, `/proc/self/cwd` and a link in the store's own path alike.
"""

import os
import posixpath
import re
from typing import Final
from urllib.parse import unquote, urlsplit

from mlflow.exceptions import MlflowException
from mlflow.server.constants import ARTIFACT_ROOT_ENV_VAR, ARTIFACTS_DESTINATION_ENV_VAR
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri, resolve_uri_if_local, validate_path_is_safe

PROXIED: Final = "mlflow-artifacts"
_AZURE_ACCOUNT: Final = re.compile(r"^(wasbs://[^/@]*@)[^/]*")
_ROUTE: Final = re.compile(r"/(?:ajax-)?api/2\.0/mlflow-artifacts/artifacts(?:/|$)")


def plain(location: str) -> str:
    """A location as this server writes it; one inside of what it serves as `mlflow-artifacts:/…`."""
    return _places(location)[0]


def served(path: str) -> str:
    """The location behind a path of the proxied store.

    Raises:
        MlflowException: MLflow would not take the path either.
    """
    return _proxied(str(validate_path_is_safe(path)))


def spellings(location: str) -> set[str]:
    """The texts under which a place may be registered and still be gated."""
    found = set(_places(location))
    if destination := _destination():
        inside = [place.removeprefix(f"{PROXIED}:/") for place in found if is_served(place)]
        found |= {posixpath.join(destination, path).rstrip("/") for path in inside}
    return found | {f"file://{one}" for one in found if one.startswith("/")}


def above(location: str) -> list[str]:
    """A location and the folders that it lies in, nearest first."""
    scheme, root, path = re.fullmatch(r"([a-zA-Z][\w+.-]*:)?(//[^/]*|)(.*)", location, re.DOTALL).groups()  # type: ignore[union-attr]
    start, found = f"{scheme or ''}{root}", []
    while path.strip("/"):
        found.append(f"{start}{path}")
        path = posixpath.dirname(path)
    return [*found, f"{start}/"]


def kept_here(location: str) -> bool:
    """Whether a place, past what is served, is in the folder or bucket that this server has for artifacts."""
    root = _own_root()
    return bool(root) and any(place != root and within(place, root) for place in _places(location))


def ours(location: str) -> bool:
    """Whether a place, whatever way it is written, is in a store of this server: nowhere else it writes for others."""
    if ".." in _unquoted(location).split("/"):
        return False  # behind a link, or to an object store, that is not the place that the text says
    root = _own_root()
    return any(is_served(place) or (root and within(place, root)) for place in _places(location))


def holds_everything(location: str) -> bool:
    """Whether a place is the root of a store of this server, or lies above one."""
    places, root = _places(location), _own_root()
    roots = [_followed(one) for one in (_destination(), root) if one]
    return f"{PROXIED}:/" in places or any(within(one, _followed(_written(location))) for one in roots)


def checked_by_mlflow(source: str) -> bool:
    """Whether MLflow itself sees that a version's source, as it is written, lies within its run or logged model."""
    return urlsplit(source).scheme in ("models", "runs", PROXIED)


def is_served(place: str) -> bool:
    """Whether a place, plainly written, is one of the proxied store."""
    return place.startswith(f"{PROXIED}:/")


def destination_scheme() -> str:
    """Of `--artifacts-destination`; empty for a folder, and where nothing is served."""
    return urlsplit(_destination()).scheme


def within(location: str, root: str) -> bool:
    """Whether a location, plainly written, is a root or lies below it."""
    return location == root or location.startswith(f"{root.rstrip('/')}/")


def _places(location: str) -> list[str]:
    """How this server writes a location: with links followed first, then as the text has it; never empty."""
    address = urlsplit(location)
    if address.scheme == PROXIED:
        return [_proxied(_unquoted(address.path))]
    if address.scheme in ("http", "https") and (found := _ROUTE.search(address.path)):
        return [_proxied(_unquoted(address.path[found.end() :]))]
    written = _written(location)
    places = [_proxied(rest) for rest in _below(written, _destination())]
    root = _own_root()
    places += [f"{root.rstrip('/')}/{rest}".rstrip("/") for rest in _below(written, root)]
    return places or [written]


def _below(written: str, root: str) -> list[str]:
    """The ways from a root down to a location, both plainly written; none where it lies elsewhere."""
    ways = [(_followed(written), _followed(root)), (written, root)] if root else []
    return [one.removeprefix(top).strip("/") for one, top in ways if within(one, top)]


def _followed(written: str) -> str:
    """What a store makes of a location: a folder's links lead elsewhere, Azure's client need not heed the account."""
    if written.startswith("/"):
        return os.path.realpath(written)
    return _AZURE_ACCOUNT.sub(r"\1", written)


def _own_root() -> str:
    """`--default-artifact-root`, plainly written; empty where it is the proxied store, or there is none."""
    root = os.environ.get(ARTIFACT_ROOT_ENV_VAR, "")
    return _written(root) if root and urlsplit(root).scheme != PROXIED else ""


def _destination() -> str:
    """`--artifacts-destination`, plainly written; empty where nothing is served."""
    destination = os.environ.get(ARTIFACTS_DESTINATION_ENV_VAR, "")
    return _written(destination) if destination else ""


def _proxied(path: str) -> str:
    return f"{PROXIED}:/{posixpath.normpath(f'/{path}').strip('/')}"


def _written(location: str) -> str:
    """A location of some store, without dots, doubled slashes and a slash at the end."""
    try:
        if is_local_uri(location):
            path = local_file_uri_to_path(resolve_uri_if_local(location))
            # Links are followed to compare, not here: a version keeps the text that it was registered under.
            return f"/{posixpath.normpath(path).lstrip('/')}"
    except MlflowException:
        return location
    address = urlsplit(location)
    return f"{address.scheme}://{address.netloc}{posixpath.normpath(address.path or '/')}".rstrip("/")


def _unquoted(path: str) -> str:
    while (once := unquote(path)) != path:
        path = once
    return path
