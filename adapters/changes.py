"""Findings that opened, changed and healed while the engine ran: `LEDGER.changes`, beside the ledger.

Findings follow from the log, and are asked for again and again; what is new about them since the last time is a change,
with a number. The changes are kept apart from the ledger, for they say when something was noticed, which no replay of the
same records can. Up to which number somebody was told (`outlets.py`) stands beside them. What is over is looked up in the
file, and only what is not is held in memory. `live.py` notes them, `adapters/http` tells of them.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from adapters.ports import StoreError
from projections.findings.rule import HEALED, OPEN

VERSION: Final = 2
CHANGES_KEPT: Final = 100_000
BUSY_SECONDS: Final = 5.0

OPENED, CHANGED, HEALS, WITHDRAWN = "opened", "changed", "healed", "withdrawn"

_TABLES = (
    "CREATE TABLE change (number INTEGER PRIMARY KEY, time INTEGER, what TEXT, id TEXT, document TEXT, before TEXT)",
    "CREATE TABLE known (id TEXT PRIMARY KEY, status TEXT, severity TEXT, document TEXT) WITHOUT ROWID",
    "CREATE TABLE told (who TEXT PRIMARY KEY, number INTEGER) WITHOUT ROWID",
)


# What healed is most of it after a while, and nobody asks for it.
_STANDING = "CREATE INDEX IF NOT EXISTS standing ON known (status) WHERE status <> 'healed'"


class Over(Protocol):
    """A finding that is over, packed."""

    @property
    def id(self) -> str:
        """The finding's."""
        ...

    @property
    def severity(self) -> str:
        """The finding's."""
        ...

    @property
    def document(self) -> dict[str, Any]:
        """The finding, unpacked."""
        ...


class Change(msgspec.Struct, frozen=True):
    """What is new about a finding. Numbers rise, also over a restart, and may skip."""

    number: int
    time: int
    """Microseconds since 1970: when it was noticed."""
    what: str
    """`opened`, `healed`, `changed` (status or severity), `withdrawn` (later records showed that it never was)."""
    finding: dict[str, Any]
    """As in `netledger findings -o json`."""
    before: str = ""
    """Its status until then; empty where it was not known."""

    @property
    def is_open(self) -> bool:
        """Whether it is open from now on."""
        return self.what != WITHDRAWN and self.finding["status"] == OPEN

    @property
    def was_open(self) -> bool:
        """Whether it was open until now."""
        return self.before == OPEN


class Changes:
    """Those of one ledger; safe to use from several threads."""

    def __init__(self, path: Path) -> None:
        """Raises `StoreError` where the file cannot be made or read."""
        self.path = path
        self._changed = threading.Condition()
        try:
            with closing(self._connect()) as connection:
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                if version != VERSION:
                    connection.execute("BEGIN IMMEDIATE")
                    for table in ("change", "known", "told"):
                        connection.execute(f"DROP TABLE IF EXISTS {table}")
                    for statement in _TABLES:
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {VERSION}")
                    connection.execute("COMMIT")
                connection.execute(_STANDING)
                rows = connection.execute("SELECT id, status, severity FROM known WHERE status <> 'healed'").fetchall()
                (self.last,) = connection.execute("SELECT coalesce(max(number), 0) FROM change").fetchone()
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error
        self._standing: dict[str, tuple[str, str]] = {id: (status, severity) for id, status, severity in rows}

    def note(
        self,
        findings: Iterable[Mapping[str, Any]],
        time: int,
        *,
        over: Iterable[Over] = (),
        gone: Iterable[str] = (),
        whole: bool = True,
    ) -> None:
        """These are the findings now: what is new is written down, and whoever waits is told. Raises `StoreError`.

        With `over` those that are over need not be among `findings`. Where these are not the `whole`, what is over and
        not among them is as it was, but for those whose ids are `gone`.
        """
        now: dict[str, tuple[str, str, Mapping[str, Any] | Over]] = {
            finding["id"]: (finding["status"], finding["severity"], finding) for finding in findings
        }
        for packed in over:
            now[packed.id] = (HEALED, packed.severity, packed)
        new = {id: one for id, one in now.items() if self._standing.get(id) != one[:2]}
        missing = [id for id in self._standing if id not in now]
        missing += [id for id in gone if id not in now]
        if not (new or missing or whole):
            return
        standing = dict(self._standing)
        number = self.last
        try:
            with closing(self._connect()) as connection:
                if whole:
                    known = [id for (id,) in connection.execute("SELECT id FROM known WHERE status = 'healed'")]
                    missing += [id for id in known if id not in now]
                connection.execute("BEGIN IMMEDIATE")
                for id, (status, severity, one) in new.items():
                    before = standing.get(id) or _known(connection, id)
                    what = _what(before, (status, severity))
                    if what:
                        number += 1
                        document = json.dumps(one.document if not isinstance(one, Mapping) else one)
                        said = (number, time, what, id, document, before[0] if before else "")
                        connection.execute("INSERT INTO change VALUES (?, ?, ?, ?, ?, ?)", said)
                        connection.execute(
                            "INSERT OR REPLACE INTO known VALUES (?, ?, ?, ?)", (id, status, severity, document)
                        )
                    standing[id] = (status, severity)
                    if status == HEALED:
                        del standing[id]
                for id in dict.fromkeys(missing):
                    row = connection.execute("SELECT status, document FROM known WHERE id = ?", (id,)).fetchone()
                    if row is not None:
                        number += 1
                        said = (number, time, WITHDRAWN, id, row[1], row[0])
                        connection.execute("INSERT INTO change VALUES (?, ?, ?, ?, ?, ?)", said)
                        connection.execute("DELETE FROM known WHERE id = ?", (id,))
                    standing.pop(id, None)
                connection.execute("DELETE FROM change WHERE number <= ?", (number - CHANGES_KEPT,))
                connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error
        self._standing = standing
        if number == self.last:
            return
        with self._changed:
            self.last = number
            self._changed.notify_all()

    def after(self, number: int, timeout: float = 0.0) -> list[Change]:
        """The changes with a higher number that are kept still, oldest first; waits for one where there is none.

        Raises `StoreError`.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.last > number, timeout)
        if self.last <= number:
            return []
        try:
            with closing(self._connect()) as connection:
                rows = connection.execute(
                    "SELECT number, time, what, document, before FROM change WHERE number > ? ORDER BY number LIMIT 1000",
                    (number,),
                ).fetchall()
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error
        return [
            Change(number, time, what, json.loads(document), before) for number, time, what, document, before in rows
        ]

    def standing(self) -> tuple[int, list[dict[str, Any]]]:
        """The number of the last change, and the findings that are open by then, as they were noted. Raises `StoreError`."""
        try:
            with closing(self._connect()) as connection:
                connection.execute("BEGIN")  # both of one moment
                (number,) = connection.execute("SELECT coalesce(max(number), 0) FROM change").fetchone()
                rows = connection.execute(
                    "SELECT document FROM known WHERE status <> 'healed' AND status = ? ORDER BY id", (OPEN,)
                ).fetchall()
                connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error
        return number, [json.loads(document) for (document,) in rows]

    def told(self, who: str) -> int | None:
        """Up to which number somebody was told; `None` of who never was. Raises `StoreError`."""
        try:
            with closing(self._connect()) as connection:
                row = connection.execute("SELECT number FROM told WHERE who = ?", (who,)).fetchone()
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error
        return None if row is None else row[0]

    def tell(self, who: str, number: int) -> None:
        """Somebody was told of everything up to a number. Raises `StoreError`."""
        try:
            with closing(self._connect()) as connection:
                connection.execute("INSERT OR REPLACE INTO told VALUES (?, ?)", (who, number))
        except (sqlite3.Error, OSError) as error:
            raise self._failed(error) from error

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def _failed(self, error: Exception) -> StoreError:
        return StoreError(
            f"the changes of findings {self.path} cannot be kept ({error}); see that there is room and permission, or move "
            "that file away: the findings themselves are in the ledger"
        )


def _known(connection: sqlite3.Connection, id: str) -> tuple[str, str] | None:
    row: tuple[str, str] | None = connection.execute(
        "SELECT status, severity FROM known WHERE id = ?", (id,)
    ).fetchone()
    return row


def _what(before: tuple[str, str] | None, now: tuple[str, str]) -> str:
    if before == now:
        return ""
    if now[0] == HEALED:
        return HEALS
    if before is None or before[0] == HEALED:
        return OPENED
    return CHANGED
