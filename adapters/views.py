"""The read models, kept beside the ledger in a file of their own: `LEDGER.views`.

Everything in it follows from the log. Throw it away, and `netledger rebuild` makes it again, the same; when it does not
stand where the ledger stands, a question makes it again by itself. `cli` asks it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from adapters.ports import StoreError

VERSION = 1

_TABLES = """
CREATE TABLE stands (version INTEGER, generation INTEGER, head INTEGER, records INTEGER, patience INTEGER);
CREATE TABLE resource (
    kind TEXT, namespace TEXT, name TEXT, document TEXT, PRIMARY KEY (kind, namespace, name)
) WITHOUT ROWID;
CREATE TABLE finding (place INTEGER PRIMARY KEY, id TEXT, document TEXT);
CREATE TABLE activity (actor TEXT, kind TEXT, document TEXT, PRIMARY KEY (actor, kind)) WITHOUT ROWID;
CREATE TABLE report (document TEXT);
"""

Stands = tuple[int, int, int]
"""Generation, head of the ledger, head of the journal: what the views were made from."""


class Views:
    """The read models of one ledger file. Raises `StoreError` where the file cannot be written."""

    def __init__(self, ledger: str | Path) -> None:
        self.path = Path(f"{ledger}.views")

    def stand_at(self, stands: Stands) -> bool:
        """Whether they are there and were made from just this."""
        try:
            with self._connected() as connection:
                row = connection.execute("SELECT generation, head, records FROM stands WHERE version = ?", (VERSION,))
                return bool(row.fetchone() == stands)
        except sqlite3.Error:
            return False

    def keep(self, stands: Stands, report: dict[str, Any], activity: dict[str, dict[str, Any]]) -> None:
        """Put new ones in place of the old, at once: nobody reads half of them."""
        fresh = self.path.with_name(self.path.name + ".new")
        try:
            fresh.unlink(missing_ok=True)
            with closing(sqlite3.connect(fresh)) as connection, connection:
                connection.executescript(_TABLES)
                connection.execute("INSERT INTO stands VALUES (?, ?, ?, ?, NULL)", (VERSION, *stands))
                connection.executemany(
                    "INSERT INTO resource VALUES (?, ?, ?, ?)",
                    (
                        (row["kind"], row["namespace"] or "", row["name"], json.dumps(row, sort_keys=True))
                        for row in report["resources"]
                    ),
                )
                connection.executemany(
                    "INSERT INTO finding VALUES (?, ?, ?)",
                    (
                        (place, finding["id"], json.dumps(finding, sort_keys=True))
                        for place, finding in enumerate(report["findings"])
                    ),
                )
                connection.executemany(
                    "INSERT INTO activity VALUES (?, ?, ?)",
                    (
                        (actor, kind, json.dumps(row, sort_keys=True))
                        for actor, kinds in sorted(activity.items())
                        for kind, row in sorted(kinds.items())
                    ),
                )
                rest = {name: value for name, value in report.items() if name not in ("resources", "findings")}
                connection.execute("INSERT INTO report VALUES (?)", (json.dumps(rest, sort_keys=True),))
            fresh.replace(self.path)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"the views {self.path} cannot be written ({error}); the ledger itself is complete"
            ) from error

    def resources(self, kind: str, namespace: str | None = None, name: str | None = None) -> list[dict[str, Any]]:
        """The live resources of a kind, by name."""
        where, values = ["kind = ?"], [kind]
        if namespace is not None:
            where.append("namespace = ?")
            values.append(namespace)
        if name is not None:
            where.append("name = ?")
            values.append(name)
        with self._connected() as connection:
            rows = connection.execute(
                f"SELECT document FROM resource WHERE {' AND '.join(where)} ORDER BY namespace, name", values
            )
            return [json.loads(document) for (document,) in rows]

    def findings(self) -> list[dict[str, Any]]:
        """The findings, the open ones first."""
        with self._connected() as connection:
            rows = connection.execute("SELECT document FROM finding ORDER BY place")
            return [json.loads(document) for (document,) in rows]

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """All rows of all tables, for comparing two of them."""
        tables = ("stands", "resource", "finding", "activity", "report")
        with self._connected() as connection:
            return {
                table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in tables[:4]
            } | {"report": connection.execute("SELECT * FROM report").fetchall()}

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            yield connection
