"""A ledger and its journal in a PostgreSQL database: what `backends.py` opens where an address begins with `postgresql://`.

Each ledger has a schema of its own, `netledger` or, with `?ledger=shop`, `netledger_shop`; all its tables are made here,
in one transaction, so that what is in it can be read on one page. The events' are the `eventsourcing` package's own.
What goes into them is `postgres_recorder.py` (events, the ledger) and `postgres_journal.py` (records, the journal).

One writer a ledger: its session holds an advisory lock, which ends with the connection however that ends. Each write
transaction asks, under a lock on the table of events, whether the writer is still the one that holds the ledger; so
one that lost its connection and was followed by another cannot write any more. And each leaves a receipt: an answer to
COMMIT that was lost with the connection is looked up, and the same write is never made twice.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from hashlib import blake2b
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast
from urllib.parse import parse_qsl, quote, urlencode, urlsplit
from uuid import UUID, uuid4

from adapters.ports import (
    Backend,
    LedgerDamaged,
    LedgerLocked,
    LedgerMissing,
    LedgerReadOnly,
    Mode,
    NewerLedger,
    NotALedger,
    Problem,
    StoreError,
    StoreFull,
)
from adapters.stores import holder
from adapters.stores.backends import shown

try:
    import psycopg
    from eventsourcing.dcb.postgres_tt import PostgresDCBRecorderTT
    from eventsourcing.postgres import PostgresDatastore
    from psycopg import Connection
    from psycopg.conninfo import conninfo_to_dict
    from psycopg.pq import TransactionStatus
    from psycopg.rows import DictRow, dict_row, tuple_row
    from psycopg.sql import SQL, Composed, Identifier, Literal
    from psycopg.types.composite import register_composite
except ImportError as error:
    raise StoreError(
        f"a postgresql:// address needs PostgreSQL's client library ({error}); install it: "
        "pip install 'netledger[postgres]'"
    ) from error

FORMAT: Final = 1
OLDEST_SERVER: Final = 130000
CONNECT_SECONDS: Final = 10
LOCK_SECONDS: Final = 30
# A writer that was killed a moment ago: its server process may not have noticed yet.
TAKE_OVER_SECONDS: Final = 1.0
# A server that restarts: how long reads and writes go on trying.
PATIENCE_SECONDS: Final = 20.0
RETRY_SECONDS: Final = 0.1
IDLE_CONNECTIONS: Final = 4
RECEIPTS_KEPT: Final = "1 day"

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_]{0,29}")
_DEFAULT: Final = "netledger"

_TABLES: Final = """
-- One row: the version of these tables, and who may write.
CREATE TABLE netledger (
    format integer NOT NULL,
    holder uuid,
    note text
);
INSERT INTO netledger VALUES ({format}, NULL, NULL);
-- One row a write transaction, for as long as its answer may be asked for.
CREATE TABLE receipt (token uuid PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());

-- The ledger, beside the package's tables. One row an append: which positions, and the hash chain over them.
CREATE TABLE seal (
    last bigint PRIMARY KEY,
    first bigint NOT NULL,
    chain bytea NOT NULL,          -- at the last event
    links bytea NOT NULL           -- the first 8 bytes of the chain at each event
);

-- The journal.
CREATE TABLE source (
    id bigint PRIMARY KEY,
    path text NOT NULL,
    format text NOT NULL,
    summary bytea NOT NULL,
    checksum bytea NOT NULL,       -- over the other columns
    key bytea NOT NULL UNIQUE      -- over path and format, which may be longer than an index takes
);
CREATE TABLE journal_block (
    number bigint PRIMARY KEY,     -- of its first record; from 1, without gaps
    records bigint NOT NULL,
    source bigint NOT NULL,
    checksum bytea NOT NULL,
    content bytea NOT NULL         -- zstd of a MessagePack array of [line, identity, fingerprint, payload]
);
CREATE TABLE journal_identity (
    identity bytea PRIMARY KEY,    -- 16 bytes of BLAKE2b
    fingerprint bytea NOT NULL,
    source bigint NOT NULL,
    line bigint NOT NULL
);
CREATE TABLE journal_aside (
    id bigint PRIMARY KEY,         -- from 1, without gaps
    source bigint NOT NULL,
    line bigint NOT NULL,
    reason text NOT NULL,
    excerpt bytea NOT NULL,
    size bigint NOT NULL,
    checksum bytea NOT NULL UNIQUE -- over the other columns; finds the same input kept aside before
);
-- Neither can be compressed further.
ALTER TABLE seal ALTER COLUMN links SET STORAGE EXTERNAL;
ALTER TABLE journal_block ALTER COLUMN content SET STORAGE EXTERNAL;
"""

Row = tuple[Any, ...]
Answer = TypeVar("Answer")
_NOTHING: Final = object()

# Of these the transaction is gone and the server may come back; it says so, or says nothing more at all.
_LOST_STATES: Final = ("08", "57P01", "57P02", "57P03", "40001", "40P01")


@contextmanager
def opened(address: str, mode: Mode, *, allow_volatile: bool = False) -> Iterator[Backend]:
    """The ledger at an address. Raises what `PostgresSchema` does."""
    # They name this module's connections; only the opener puts the three together.
    from adapters.stores.postgres_journal import PostgresJournal
    from adapters.stores.postgres_recorder import PostgresRecorder

    with PostgresSchema(address, mode, allow_volatile=allow_volatile) as schema:
        yield Backend(schema.address, PostgresRecorder(schema), PostgresJournal(schema), schema)


def storable(text: str) -> str:
    """Text as PostgreSQL can hold it, which has no U+0000: no two texts become one, and most stay as they are."""
    if "\0" not in text and "\1" not in text:
        return text
    return text.replace("\1", "\0011").replace("\0", "\0010")


def restored(text: str) -> str:
    """What `storable` was given."""
    return text if "\1" not in text else text.replace("\0010", "\0").replace("\0011", "\1")


class Connections(PostgresDatastore):
    """The package's datastore on connections that are made when they are asked for and kept while they are good.

    A lost one says why at once, which the package's pool keeps to itself until it has given up.
    """

    def __init__(self, conninfo: dict[str, Any], schema: str, read_only: bool) -> None:
        # The package's own pool is never opened.
        super().__init__("", "", "", "", "", schema=schema)
        self._conninfo = conninfo
        self._read_only = read_only
        self._idle: list[Connection[DictRow]] = []
        self._ended = False

    def connect(self) -> Connection[DictRow]:
        """A new connection. Raises `psycopg.Error`."""
        connection = psycopg.connect(**self._conninfo, autocommit=True, row_factory=dict_row)
        try:
            # The package names tables without their schema in one place.
            connection.execute(SQL("SET search_path = {}, pg_catalog").format(Identifier(self.schema)))
            if self._read_only:
                connection.execute("SET default_transaction_read_only = on")
            elif connection.execute("SHOW synchronous_commit").fetchone() == {"synchronous_commit": "off"}:
                # An answer before the disk has it would be no acknowledgement.
                connection.execute("SET synchronous_commit = on")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def get_connection(self) -> Iterator[Connection[DictRow]]:
        """A connection for one short use. Raises `psycopg.Error`."""
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self.connect()
        try:
            for info in self.psycopg_type_adapters.values():
                if not connection.adapters.types.get(info.oid):
                    register_composite(info, connection)
            yield connection
        finally:
            usable = not connection.closed and connection.info.transaction_status == TransactionStatus.IDLE
            if usable and not self._ended and len(self._idle) < IDLE_CONNECTIONS:
                self._idle.append(connection)
            else:
                connection.close()

    def forget(self) -> None:
        """Close the idle connections: after one was lost, the others need not be good."""
        while self._idle:
            with suppress(IndexError, psycopg.Error):
                self._idle.pop().close()

    def close(self) -> None:
        """Close what is idle; what is in use is closed where it is given back."""
        self._ended = True
        # Called by the base class's finaliser too, perhaps before all is there.
        if hasattr(self, "_idle"):
            self.forget()


class PostgresSchema:
    """A ledger's schema in a database, open for one writer or for reading; a context manager that closes it.

    Any number of threads may use it: writers take turns, readers do not wait for them.

    Raises:
        LedgerMissing: there is no such database, or, for reading, no such ledger in it.
        NotALedger: the schema holds something else.
        NewerLedger: made by a later version.
        LedgerLocked: another writer has it open; the message says who.
        LedgerReadOnly: the server is a standby, or takes no writes.
        StoreError: the address is wrong, the server cannot be reached, refuses this user or is too old, may forget what it
            acknowledged (`fsync = off`; `allow_volatile` accepts it), or lacks a privilege.
    """

    def __init__(self, address: str, mode: Mode = "write", *, allow_volatile: bool = False) -> None:
        self.address = shown(address)
        self.mode = mode
        self.name, conninfo = _taken_apart(address)
        self.datastore = Connections(conninfo, self.name, mode == "read")
        self._holder = uuid4()
        self._turn = threading.Lock()
        self._closed = False
        self._session: Connection[DictRow] | None = None
        digest = blake2b(self.name.encode(), digest_size=8).digest()
        self._lock_key = int.from_bytes(digest, "big", signed=True)
        try:
            with closing(self.datastore.connect()) as connection:
                self._refuse_unfit_server(connection, allow_volatile)
                if mode == "read":
                    self._refuse_foreign_or_newer(connection, must_exist=True)
            if mode == "write":
                self._session = self._locked()
                self._make(self._session)
                self._claim(self._session)
        except psycopg.Error as error:
            self.close()
            raise self._explained(error, "open it") from error
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def close(self) -> None:
        """Close the connections and let go of the ledger. Subscriptions end. Closing twice is fine."""
        with self._turn:
            self._closed = True
            if self._session is not None:
                # Said before the connection ends: the server may take a moment to see that.
                with suppress(psycopg.Error):
                    self._session.execute("SELECT pg_advisory_unlock_all()")
                self._session.close()
                self._session = None
            self.datastore.close()

    def write(self, work: Callable[[Connection[DictRow]], Answer]) -> Answer:
        """Do `work` in one transaction: all of it is on disk when this returns, or nothing of it. Once, never twice.

        Threads and processes take turns, so that positions are given in the order of the commits and events of one append
        stand side by side. Where the connection is lost, `work` is done again, unless its receipt shows that it was kept.

        Raises:
            LedgerReadOnly, LedgerLocked, StoreFull, LedgerDamaged, StoreError: nothing was kept, or the message says that
                it is not known.
            What `work` raises: nothing was kept.
        """
        self._refuse_when_closed()
        if self.mode == "read":
            raise LedgerReadOnly(f"cannot write to the ledger {self.address}: it was opened for reading")
        token = uuid4()
        answer: object = _NOTHING

        def attempt() -> Answer:
            nonlocal answer
            with self.datastore.get_connection() as connection:
                with connection.transaction():
                    self._take_turn(connection)
                    if answer is not _NOTHING and self._has_receipt(connection, token):
                        return cast(Answer, answer)
                    answer = _NOTHING
                    made = work(connection)
                    connection.execute("INSERT INTO receipt (token) VALUES (%s)", (token,))
                    # From here on it may be kept though nobody says so.
                    answer = made
                return made

        with self._turn:
            self._refuse_when_closed()
            try:
                return self._persistently(attempt, self._hold_again)
            except psycopg.Error as error:
                unsure = "; whether it was kept is not known: look before trying again"
                raise self._explained(error, "write to it", "" if answer is _NOTHING else unsure) from error

    def read(self, work: Callable[[Connection[DictRow]], Answer]) -> Answer:
        """What `work` finds on a connection; it writes nothing, and is done again where the connection is lost.

        Raises:
            LedgerDamaged, StoreError: it could not be read.
        """
        self._refuse_when_closed()

        def attempt() -> Answer:
            with self.datastore.get_connection() as connection:
                return work(connection)

        try:
            return self._persistently(attempt, self._refuse_when_closed)
        except psycopg.Error as error:
            raise self._explained(error, "read it") from error

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """All rows of one short read: a page, not a table. Raises what `read` does."""
        return self.read(lambda connection: rows(connection, sql, parameters))

    def verify(self) -> Iterator[Problem]:
        """Whether the tables and indexes are there and in use, and PostgreSQL's own page checksums found nothing."""
        try:
            for name, told in self.query(_UNSOUND, (self.name,)):
                yield Problem("file", None, f"{self.name}.{name}: {told}")
            ((failures,),) = self.query(
                "SELECT coalesce(sum(checksum_failures), 0)::bigint FROM pg_stat_database"
                " WHERE datname = current_database()"
            )
            if failures:
                yield Problem("file", None, f"PostgreSQL counts {failures} pages whose checksum does not fit")
        except StoreError as error:
            yield Problem("file", None, str(error))

    # ---- one transaction

    def _take_turn(self, connection: Connection[DictRow]) -> None:
        """Wait for the table's lock, which the package's own appends take too; refuse if another writer took over."""
        connection.execute(
            SQL("SET LOCAL lock_timeout = {}; LOCK TABLE {} IN EXCLUSIVE MODE").format(
                Literal(f"{LOCK_SECONDS}s"), Identifier(self.name, events_table(self.name))
            )
        )
        ((writer, note),) = rows(connection, "SELECT holder, note FROM netledger")
        if writer != self._holder:
            raise LedgerLocked(
                f"cannot write to the ledger {self.address}: the connection was lost and {holder.told(note)} took over;"
                " nothing of this write was kept; stop that one and open the ledger again"
            )

    def _has_receipt(self, connection: Connection[DictRow], token: UUID) -> bool:
        # An earlier attempt that is still on its way holds the lock that was just waited for.
        return bool(rows(connection, "SELECT 1 FROM receipt WHERE token = %s", (token,)))

    def _persistently(self, attempt: Callable[[], Answer], before_another: Callable[[], None]) -> Answer:
        deadline = None
        while True:
            try:
                if deadline is not None:
                    before_another()
                return attempt()
            except psycopg.Error as error:
                deadline = deadline or time.monotonic() + PATIENCE_SECONDS
                if not _is_lost(error) or time.monotonic() > deadline or self._closed:
                    raise
            self.datastore.forget()
            time.sleep(RETRY_SECONDS)

    # ---- the writer's lock

    def _locked(self, patience: float = TAKE_OVER_SECONDS) -> Connection[DictRow]:
        """A session that holds the ledger's lock, waited for so many seconds."""
        session = self.datastore.connect()
        try:
            # A host that is gone says nothing: the server has to ask, or the lock would stay for hours.
            session.execute(
                "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
            )
            deadline = time.monotonic() + patience
            while rows(session, "SELECT pg_try_advisory_lock(%s)", (self._lock_key,)) != [(True,)]:
                if time.monotonic() > deadline:
                    raise LedgerLocked(
                        f"cannot open the ledger {self.address} for writing: {self._told_holder(session)} is writing it;"
                        " stop that one, or open the ledger for reading"
                    )
                time.sleep(0.05)
        except BaseException:
            session.close()
            raise
        return session

    def _told_holder(self, session: Connection[DictRow]) -> str:
        try:
            ((note,),) = rows(session, "SELECT note FROM netledger")
        except (psycopg.Error, ValueError):
            note = None
        return holder.told(note)

    def _claim(self, session: Connection[DictRow]) -> None:
        """Say who writes from now on; what the one before has not yet committed comes before, or is refused."""
        with session.transaction():
            session.execute(
                SQL("SET LOCAL lock_timeout = {}; LOCK TABLE {} IN EXCLUSIVE MODE").format(
                    Literal(f"{LOCK_SECONDS}s"), Identifier(self.name, events_table(self.name))
                )
            )
            session.execute("UPDATE netledger SET holder = %s, note = %s", (self._holder, holder.note()))
            session.execute("DELETE FROM receipt WHERE at < now() - %s::interval", (RECEIPTS_KEPT,))

    def _hold_again(self) -> None:
        """Take the lock again if its session was lost too. Whether somebody wrote meanwhile, the next turn shows."""
        self._refuse_when_closed()
        if self._session is not None:
            try:
                self._session.execute("SELECT 1")
                return
            except psycopg.Error:
                self._session.close()
                self._session = None
        # It may be this process's own lost session that still holds it.
        self._session = self._locked(PATIENCE_SECONDS)

    # ---- opening

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise StoreError(f"the ledger {self.address} was closed before this call; open it again")

    def _refuse_unfit_server(self, connection: Connection[DictRow], allow_volatile: bool) -> None:
        version = connection.info.server_version
        if version < OLDEST_SERVER:
            raise StoreError(
                f"cannot open the ledger {self.address}: the server is PostgreSQL {version // 10000}; it must be "
                f"{OLDEST_SERVER // 10000} or later"
            )
        ((encoding, fsync, standby, read_only),) = rows(
            connection,
            "SELECT current_setting('server_encoding'), current_setting('fsync'), pg_is_in_recovery(),"
            " current_setting('default_transaction_read_only')",
        )
        if encoding != "UTF8":
            raise StoreError(
                f"cannot open the ledger {self.address}: the database's encoding is {encoding}, which cannot hold every "
                "name; make one with: createdb --encoding UTF8 --template template0 NAME"
            )
        if self.mode == "read":
            return
        if standby:
            raise LedgerReadOnly(
                f"cannot write the ledger {self.address}: the server is a standby; name the primary, or open the ledger "
                "for reading"
            )
        if read_only == "on":
            raise LedgerReadOnly(
                f"cannot write the ledger {self.address}: the server takes no writes from this user or database "
                "(default_transaction_read_only is on); allow them, or open the ledger for reading"
            )
        if fsync == "off" and not allow_volatile:
            raise StoreError(
                f"cannot open the ledger {self.address} for writing: the server runs with fsync = off and may forget, in a "
                "crash, what it acknowledged; set fsync = on, or accept it with --allow-volatile"
            )

    def _refuse_foreign_or_newer(self, connection: Connection[DictRow], *, must_exist: bool = False) -> bool:
        """Whether there is a ledger; `False` where there is room for one."""
        tables = {name for (name,) in rows(connection, _TABLE_NAMES, (self.name,))}
        if not tables:
            if must_exist:
                raise LedgerMissing(
                    f"there is no ledger at {self.address} (no schema {self.name} in it, or none that this user may see); "
                    "nothing to read"
                )
            return False
        if rows(connection, "SELECT has_schema_privilege(%s, 'USAGE')", (self.name,)) == [(False,)]:
            raise StoreError(f"cannot open the ledger {self.address}: permission denied; {self._grant}")
        if "netledger" not in tables:
            raise NotALedger(
                f"{self.address} is not a netledger ledger: the schema {self.name} holds other tables, such as "
                f"{min(tables)}; it was left as it is; choose another name with ?ledger=NAME"
            )
        found = rows(connection, "SELECT format FROM netledger")
        if len(found) != 1:
            raise LedgerDamaged(f"{self.address} is damaged: its table netledger has {len(found)} rows instead of one")
        if found[0][0] != FORMAT:
            raise NewerLedger(
                f"{self.address} has ledger version {found[0][0]}; this netledger knows version {FORMAT};"
                " use the netledger that made it, or a later one"
            )
        return True

    def _make(self, session: Connection[DictRow]) -> None:
        if self._refuse_foreign_or_newer(session):
            return
        # One transaction: after a crash there is a ledger, or nothing of it.
        with session.transaction():
            if not rows(session, "SELECT 1 FROM pg_namespace WHERE nspname = %s", (self.name,)):
                session.execute(SQL("CREATE SCHEMA {}").format(Identifier(self.name)))
            for statement in _package_tables(self.datastore):
                session.execute(statement)
            session.execute(SQL(_TABLES).format(format=Literal(FORMAT)))
            # It looks an event up for each of its tags, though both come in one transaction: as much work as the append.
            # `verify` compares the two tables.
            session.execute(
                SQL("ALTER TABLE {} DROP CONSTRAINT IF EXISTS {}").format(
                    Identifier(self.name, tags_table(self.name)), Identifier(f"{tags_table(self.name)}_main_id_fkey")
                )
            )

    # ---- what went wrong

    @property
    def _grant(self) -> str:
        return (
            "grant it: CREATE on the database where the ledger is to be made (GRANT CREATE ON DATABASE ... TO ...), and "
            f"for an existing one all rights on the schema {self.name} and what is in it; to read, USAGE on the schema and "
            "SELECT on its tables"
        )

    def _explained(self, error: psycopg.Error, attempt: str, more: str = "") -> StoreError:
        """What PostgreSQL's error means for an operator."""
        state = error.sqlstate or ""
        said = " ".join(str(error).split())
        told = f"cannot {attempt} (ledger {self.address}): {said}{more}"
        if state in ("53100", "53200") or "No space left" in said:
            return StoreFull(f"{told}; nothing of this write was kept; make room on the server, then try again")
        if state in ("25006", "25007"):
            return LedgerReadOnly(f"{told}; allow writing, or open the ledger for reading")
        if state == "42501":
            return StoreError(f"{told}; {self._grant}")
        if state == "55P03":
            return StoreError(f"{told}; waited {LOCK_SECONDS} s for another session that holds {self.name}; try again")
        if state == "54000":
            return StoreError(f"{told}; nothing of this write was kept; a tag is limited to about 2,600 bytes")
        if state[:2] in ("XX", "23") or state in ("42P01", "42703", "42883"):
            return LedgerDamaged(f"{told}; verify it to learn where; restore a copy, or replay the sources")
        if "password authentication failed" in said or "no password supplied" in said or state[:2] == "28":
            return StoreError(f"{told}; check the user and the password (in the address, PGPASSWORD or ~/.pgpass)")
        if state == "3D000" or re.search(r'database ".*" does not exist', said):
            return LedgerMissing(f"{told}; make it: createdb --encoding UTF8 --template template0 NAME")
        if "onnection refused" in said or "could not translate host name" in said or "No such file" in said:
            return StoreError(f"{told}; is the server running, and are host and port right?")
        return StoreError(told)


def rows(connection: Connection[DictRow], sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
    """All rows of a statement, as tuples."""
    with connection.cursor(row_factory=tuple_row, binary=True) as cursor:
        # Written here, never of what came in.
        return cursor.execute(cast(Any, sql), parameters).fetchall()


def events_table(schema: str) -> str:
    """The package's name of the table of events, in the ledger's schema."""
    return f"{schema}_tt_main"


def tags_table(schema: str) -> str:
    """The package's name of the table of tags, in the ledger's schema."""
    return f"{schema}_tt_tag"


_TABLE_NAMES: Final = (
    "SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
    " WHERE nspname = %s AND relkind IN ('r', 'p', 'v', 'm', 'f')"
)

_UNSOUND: Final = """
SELECT relname, CASE WHEN indisvalid THEN 'the index is not ready' ELSE 'the index is not valid: REINDEX it' END
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname = %s AND NOT (indisvalid AND indisready)
"""


def _package_tables(datastore: Connections) -> Iterator[Composed]:
    """What the package's recorder wants to be there."""
    yield from PostgresDCBRecorderTT(datastore, events_table_name=datastore.schema).sql_create_statements


def _taken_apart(address: str) -> tuple[str, dict[str, Any]]:
    """The schema of an address, and what libpq makes of the rest of it. Raises `StoreError`."""
    try:
        parts = urlsplit(address)
        parameters = parse_qsl(parts.query, keep_blank_values=True)
        ledgers = [value for name, value in parameters if name == "ledger"]
        if len(ledgers) > 1 or any(not _NAME.fullmatch(name) for name in ledgers):
            raise StoreError(
                f"{shown(address)}: ?ledger= takes one name of a ledger: at most 30 small letters, digits and underscores, "
                "such as shop"
            )
        # libpq takes a plus sign for itself.
        query = urlencode([(name, value) for name, value in parameters if name != "ledger"], quote_via=quote)
        conninfo = conninfo_to_dict(parts._replace(query=query).geturl())
    except (ValueError, psycopg.ProgrammingError) as error:
        told = str(error).replace(address, shown(address)).strip()
        raise StoreError(
            f"{shown(address)} is not an address of PostgreSQL ({told}); write "
            "postgresql://USER:PASSWORD@HOST:PORT/DATABASE?ledger=NAME"
        ) from None
    conninfo.setdefault("connect_timeout", CONNECT_SECONDS)
    conninfo.setdefault("application_name", f"netledger {os.getpid()}")
    return (f"{_DEFAULT}_{ledgers[0]}" if ledgers else _DEFAULT), dict(conninfo)


def _is_lost(error: psycopg.Error) -> bool:
    """Whether the connection was lost, or the transaction for no fault of its own, so that another try may do."""
    if not isinstance(error, psycopg.OperationalError):
        return False
    return error.sqlstate is None or error.sqlstate.startswith(_LOST_STATES)
