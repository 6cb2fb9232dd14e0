"""The read models, kept beside the ledger in a file of their own: `LEDGER.views`.

Everything in it follows from the log. Throw it away, and `netledger rebuild` makes it again, the same; when it does not
stand where the ledger stands, a question makes it again by itself, in memory where it cannot be written. `cli` asks it.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.ports import StoreError
from adapters.stores.backends import beside

if TYPE_CHECKING:
    from adapters.app import Store
    from adapters.judging import Judged
    from adapters.ledger import Moment

VERSION = 3

_TABLES = """
CREATE TABLE stands (version INTEGER, generation INTEGER, head INTEGER, records INTEGER, pruned INTEGER);
CREATE TABLE resource (
    kind TEXT, namespace TEXT, name TEXT, document TEXT, PRIMARY KEY (kind, namespace, name)
) WITHOUT ROWID;
CREATE TABLE finding (place INTEGER PRIMARY KEY, id TEXT, document TEXT);
CREATE TABLE activity (actor TEXT, kind TEXT, document TEXT, PRIMARY KEY (actor, kind)) WITHOUT ROWID;
CREATE TABLE coverage (document TEXT);
"""

Stands = tuple[int, int, int, int]
"""Generation, head of the ledger, head of the journal, up to where it was pruned: what the views were made from."""

Activity = dict[str, dict[str, Any]]
"""Actor to kind to what that actor did to resources of it."""


class Views:
    """The read models of the ledger at one address."""

    def __init__(self, ledger: str | Path) -> None:
        self.path = beside(str(ledger), "views")
        self._held: sqlite3.Connection | None = None

    def stand_at(self, stands: Stands) -> bool:
        """Whether they are there and were made from just this."""
        try:
            with self._connected() as connection:
                row = connection.execute(
                    "SELECT generation, head, records, pruned FROM stands WHERE version = ?", (VERSION,)
                )
                return bool(row.fetchone() == stands)
        except StoreError:
            return False

    def keep(self, stands: Stands, report: dict[str, Any], activity: Activity) -> None:
        """Put new ones in place of the old, at once: nobody reads half of them.

        Raises `StoreError` where the file cannot be written; the old ones stay then.
        """
        # Two that answer questions at once may both make them: each in a file of its own.
        fresh = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            fresh.unlink(missing_ok=True)
            with closing(sqlite3.connect(fresh)) as connection:
                _fill(connection, stands, report, activity)
            fresh.replace(self.path)
        except (OSError, sqlite3.Error) as error:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise StoreError(
                f"the views {self.path} cannot be written ({error}); the ledger itself is complete, and "
                "`netledger rebuild` makes them when there is room and permission"
            ) from error

    def hold(self, stands: Stands, report: dict[str, Any], activity: Activity) -> None:
        """Answer from these for as long as this object lives, and keep nothing."""
        self._held = sqlite3.connect(":memory:")
        _fill(self._held, stands, report, activity)

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

    def names(self, kind: str) -> list[str]:
        """The names of the live resources of a kind, `namespace/name` where it has namespaces."""
        with self._connected() as connection:
            rows = connection.execute("SELECT namespace, name FROM resource WHERE kind = ?", (kind,))
            return [f"{namespace}/{name}" if namespace else name for namespace, name in rows]

    def findings(self) -> list[dict[str, Any]]:
        """The findings, the open ones first."""
        with self._connected() as connection:
            rows = connection.execute("SELECT document FROM finding ORDER BY place")
            return [json.loads(document) for (document,) in rows]

    def coverage(self) -> dict[str, Any]:
        """What the log can and cannot speak for."""
        with self._connected() as connection:
            found: dict[str, Any] = json.loads(connection.execute("SELECT document FROM coverage").fetchone()[0])
            return found

    @contextmanager
    def judged(self, store: Store, moment: Moment | None = None) -> Iterator[Judged]:
        """All that is folded: no file keeps it, so the log is."""
        from adapters.judging import fold

        yield fold(store.ledger, moment)

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """All rows of all tables, for comparing two of them."""
        with self._connected() as connection:
            return {
                table: connection.execute(f"SELECT * FROM {table} ORDER BY {order}").fetchall()
                for table, order in (
                    ("stands", 1),
                    ("resource", "1, 2, 3"),
                    ("finding", 1),
                    ("activity", "1, 2"),
                    ("coverage", 1),
                )
            }

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        if self._held is not None:
            yield self._held
            return
        # Nobody writes into this file once it bears its name: it may lie on a disk that cannot be written.
        address = f"{self.path.absolute().as_uri()}?mode=ro&immutable=1"
        try:
            with closing(sqlite3.connect(address, uri=True)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise StoreError(
                f"the views {self.path} cannot be read ({error}); remove that file and ask again, it is made anew"
            ) from error


def _fill(connection: sqlite3.Connection, stands: Stands, report: dict[str, Any], activity: Activity) -> None:
    connection.executescript(_TABLES)
    with connection:
        connection.execute("INSERT INTO stands VALUES (?, ?, ?, ?, ?)", (VERSION, *stands))
        connection.executemany(
            "INSERT INTO resource VALUES (?, ?, ?, ?)",
            ((row["kind"], row["namespace"] or "", row["name"], json.dumps(row)) for row in report["resources"]),
        )
        connection.executemany(
            "INSERT INTO finding VALUES (?, ?, ?)",
            ((place, finding["id"], json.dumps(finding)) for place, finding in enumerate(report["findings"])),
        )
        connection.executemany(
            "INSERT INTO activity VALUES (?, ?, ?)",
            (
                (actor, kind, json.dumps(row))
                for actor, kinds in sorted(activity.items())
                for kind, row in sorted(kinds.items())
            ),
        )
        connection.execute("INSERT INTO coverage VALUES (?)", (json.dumps(report["coverage"]),))
