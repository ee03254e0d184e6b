"""The routes that only read: what `audit`, `show`, `compare` and `changelog` ask of a guarded server.

| | |
| --- | --- |
| `GET audit` | decisions, oldest first; see below |
| `GET audit/verify` | whether the chain holds, and its end; `noted` is SEQ:HASH |
| `GET show` | all that the records hold of a version: `name`, `version`; with `files` its files are read |
| `GET measured` | what was measured of the bytes with a `digest` |

Decisions fit `model_name`, `version`, `actor`, `action`, `since` and `until` where these are given; an answer holds at
most `limit`: those behind the row `after`, or with `newest` the newest. The blueprint is that of `registry.guard.api`.
"""

from collections.abc import Mapping
from typing import TypeVar

from flask import request
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from records.audit import AuditRow, Wanted
from records.evidence import Measured
from registry.guard.api import blueprint, route
from registry.guard.current import guarded_store
from registry.guard.permissions import require_all
from registry.reports.audit import parse_head
from registry.reports.reader import Chain, LocalReader, VersionRecords
from registry.reports.remote import PAGE

__all__ = ["blueprint"]

M = TypeVar("M", bound=BaseModel)


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Page(_Asked):
    model_name: str | None = None
    version: str | None = None
    actor: str | None = None
    action: str | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    limit: int = Field(default=PAGE, ge=1, le=PAGE)
    after: int = Field(default=0, ge=0)
    newest: bool = False


class _Version(_Asked):
    name: str
    version: str
    files: bool = False


class _Noted(_Asked):
    noted: str = ""


class _Digest(_Asked):
    digest: str


@route("/audit", "GET")
def audit() -> list[AuditRow]:
    asked = _arguments(_Page)
    wanted = Wanted(**asked.model_dump(exclude={"limit", "after", "newest"}))
    rows = _reader().page(wanted, asked.limit, asked.after, asked.newest)
    require_all({row.model_name for row in rows})
    return rows


@route("/audit/verify", "GET")
def audit_verify() -> Chain:
    noted = _arguments(_Noted).noted
    return _reader().verify(parse_head(noted) if noted else None)


@route("/show", "GET")
def show() -> VersionRecords:
    asked = _arguments(_Version)
    return _reader().version(asked.name, asked.version, asked.files)


@route("/measured", "GET")
def measured() -> list[Measured]:
    return _reader().measured(_arguments(_Digest).digest)


def _reader() -> LocalReader:
    store = guarded_store()
    return LocalReader(store.lifecycle, store)


def _arguments(kind: type[M]) -> M:
    given: Mapping[str, str] = request.args.to_dict()
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise MlflowException(f"{where}: {first['msg']}", INVALID_PARAMETER_VALUE) from None
