"""The records of a guarded server, asked for by its routes."""

from typing import Final

from pydantic import TypeAdapter

from records.audit import AuditRow, Head, Wanted
from records.evidence import Measured
from registry.remote import RemoteLifecycle
from registry.reports.reader import Chain, VersionRecords

# As many rows as one answer holds.
PAGE: Final = 2000


class RemoteReader:
    """A guarded server, as something to read from."""

    def __init__(self, server: RemoteLifecycle) -> None:
        self._server = server

    def rows(self, wanted: Wanted, newest: int | None = None) -> list[AuditRow]:
        asked = TypeAdapter(Wanted).dump_python(wanted, mode="json", exclude_none=True)
        if newest is not None and newest <= PAGE:
            return self._page({**asked, "limit": str(newest), "newest": "true"})
        rows: list[AuditRow] = []
        while True:
            page = self._page({**asked, "limit": str(PAGE), "after": str(rows[-1].seq if rows else 0)})
            rows += page
            if len(page) < PAGE:
                return rows if newest is None else rows[len(rows) - min(newest, len(rows)) :]

    def verify(self, noted: Head | None = None) -> Chain:
        params = {"noted": f"{noted.seq}:{noted.row_hash}"} if noted else {}
        return self._server.ask("GET", "audit/verify", Chain, params=params)

    def version(self, name: str, version: str, files: bool = False) -> VersionRecords:
        params = {"name": name, "version": version, "files": "true" if files else "false"}
        return self._server.ask("GET", "show", VersionRecords, params=params)

    def measured(self, digest: str) -> list[Measured]:
        return self._server.ask("GET", "measured", list[Measured], params={"digest": digest})

    def _page(self, params: dict[str, str]) -> list[AuditRow]:
        return self._server.ask("GET", "audit", list[AuditRow], params=params)
