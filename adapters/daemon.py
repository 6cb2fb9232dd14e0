"""The daemon put together: settings, store, live engine, sources, server; and how it ends.

A signal stops it: what is in flight is finished and answered, the engine writes down where it stands, and it exits 0
within ten seconds. A second signal ends it at once. Nothing that was acknowledged is lost by either.
`cli/serving.py` is the way in.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import cast

from adapters import app, logs, notify, outlets, tracing
from adapters.feeds.feed import Feed, running
from adapters.http.access import AccessError
from adapters.http.routes import application
from adapters.http.server import Limits, Server, bound, context_of
from adapters.http.service import Bounds, Service
from adapters.live import Live
from adapters.outlets import Outlet
from adapters.ports import LedgerMissing, StoreError
from adapters.settings import Settings, SettingsError, is_loopback, shown_source
from adapters.stores.backends import path_of, shown

END_SECONDS = 9.5
"""From the first signal to the end of the process."""
HTTP_SECONDS = 4.0
"""Of these, for requests in flight."""
FEED_SECONDS = 2.0
"""For each source to finish what it has in hand."""
FILES = 65_536

_log = logging.getLogger("netledger")


def run(settings: Settings) -> None:
    """Serve until a signal comes. Raises `SettingsError`, `AccessError`, `StoreError` and `OSError` where it cannot begin."""
    logs.begin(settings.log_format, settings.log_level)
    settings.require_safe()
    had_token = settings.own_tokens.exists()
    access = settings.access(make=True)
    stopping = _Stopping()
    tracing.begin()
    with ExitStack() as stack:
        stack.callback(tracing.end)
        # Before anything that takes its time: an address that is taken is said at once.
        listener = stack.enter_context(_listener(settings))
        stack.enter_context(stopping)
        try:
            store = stack.enter_context(app.opened(settings.ledger, allow_volatile=settings.allow_volatile))
            if store.durability:
                _log.warning("%s", store.durability)
            live = Live(store, settings.ledger, window=settings.window, patience=settings.patience)
        except KeyboardInterrupt:
            _log.info("stopped before it was ready")
            return
        stopping.serving = True
        stack.callback(_stop, live, stopping)
        if settings.own_tokens.exists() and not had_token:
            _log.info("a token was made: %s", settings.own_tokens)
        feeds = feeds_of(settings, live)
        service = Service(live, access, _bounds(settings), settings.folder, feeds)
        stack.callback(service.close)
        service.outlets = told(settings, live, listener)
        server = Server(application(service), listener, _limits(settings), settings.certificate, grace=HTTP_SECONDS)
        _raise_file_limit()
        # A thread that computes lets go of the interpreter five times as often as by default: whoever answers waits less.
        sys.setswitchinterval(0.001)

        def begin() -> None:
            began = time.monotonic()
            live.start()
            fields = {"ledger": shown(settings.ledger), "seconds": round(time.monotonic() - began, 3)}
            _log.info("ledger open", extra={"fields": fields})

        def begin_the_rest() -> None:
            stack.enter_context(outlets.running(service.outlets))
            for feed in feeds:
                stack.enter_context(running(feed, feed.state().name, FEED_SECONDS))

        asyncio.run(_serve(service, server, settings, listener, stopping, begin, begin_the_rest))


def told(settings: Settings, live: Live, listener: socket.socket | None = None) -> list[Outlet]:
    """Whom the daemon tells. Raises `StoreError` where it cannot be meant so; that nobody answers is no reason."""
    found: list[Outlet] = []
    severities = outlets.severities_of(settings.alert_severity)
    if settings.alert_webhook:
        from adapters.alerting import AlertWebhook, Target, labels_of

        for url in dict.fromkeys(settings.alert_webhook):
            target = Target(
                url=url,
                token_file=settings.alert_token_file,
                ca=settings.alert_ca,
                severities=severities,
                labels={"cluster": settings.cluster or "", **labels_of(settings.alert_label)},
                external_url=settings.external_url or _outward(settings, listener),
            )
            found.append(AlertWebhook(live, target))
    if settings.kubernetes_events:
        from adapters.announcing import KubernetesEvents

        path = None if settings.kubeconfig is None else str(settings.kubeconfig)
        found.append(KubernetesEvents(live, path, severities))
    if settings.publish:
        from adapters.publishing import Publisher

        found += [Publisher(live, address) for address in dict.fromkeys(settings.publish)]
    return found


def feeds_of(settings: Settings, live: Live) -> list[Feed]:
    """The sources that deliver by themselves. Raises `StoreError` for an address or a kubeconfig that cannot be used."""
    # What none asks for is not imported: an API server's client alone takes as long as all the rest.
    feeds: list[Feed] = []
    if settings.watch:
        from adapters.feeds.watch import Watch, known_to

        path = None if settings.kubeconfig is None else str(settings.kubeconfig)
        feeds.append(Watch(live.intake, path, cluster=settings.cluster, known=known_to(live)))
    for address in settings.sources:
        from adapters.feeds.redis_stream import RedisStream

        feeds.append(RedisStream(live.intake, address))
    for pattern in settings.follow:
        from adapters.feeds.follow import Follow

        feeds.append(Follow(live.intake, pattern))
    return feeds


def check(settings: Settings) -> Iterator[tuple[str, str, bool]]:
    """What `run` would find, without beginning: what it is about, what is so, and whether that is right."""
    for about, look in (
        ("settings", _check_settings),
        ("ledger", _check_ledger),
        ("address", _check_address),
        ("certificate", _check_certificate),
        ("access", _check_access),
        ("sources", _check_sources),
        ("told", _check_told),
    ):
        try:
            yield about, look(settings), True
        except (SettingsError, AccessError, StoreError, OSError) as error:
            yield about, _sentence(error), False


# ---- while it runs


async def _serve(
    service: Service,
    server: Server,
    settings: Settings,
    listener: socket.socket,
    stopping: _Stopping,
    begin: Callable[[], None],
    begin_the_rest: Callable[[], None],
) -> None:
    """Take records from now on, answer questions once `begin` is through; raises what it raises."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    stopping.tell(lambda: loop.call_soon_threadsafe(asked.set))
    serving = loop.create_task(server.serve())
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    host, port = listener.getsockname()[:2]
    place = settings._replace(listen=(host, port)).place
    scheme = "http" if settings.certificate is None else "https"
    about = {"fields": {"address": f"{scheme}://{place}", "process": os.getpid()}}
    _log.info("listening", extra=about)
    notify.tell(f"STATUS=takes records on {place}, and reads where it was")
    watched = loop.create_task(_watchdog())
    waiting = loop.create_task(asked.wait())
    starting = loop.create_task(_in_a_thread(begin))
    await asyncio.wait({waiting, serving, starting}, return_when=asyncio.FIRST_COMPLETED)
    if starting.done() and starting.exception() is None and not waiting.done():
        begin_the_rest()
        _log.info("ready", extra=about)
        notify.tell("READY=1", f"STATUS=listening on {place}")
        await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
    notify.tell("STOPPING=1")
    _log.info("stopping", extra={"fields": {"requests": len(server.server_state.tasks)}})
    watched.cancel()
    waiting.cancel()
    # Streams would be waited for as requests are.
    await asyncio.to_thread(service.followers.close)
    server.should_exit = True
    await serving
    if not starting.done():
        starting.cancel()
    elif (error := starting.exception()) is not None and not asked.is_set():
        raise error


async def _in_a_thread(work: Callable[[], None]) -> None:
    """Do that in a thread that nobody waits for when the process ends."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell(error: Exception | None) -> None:
        if not done.cancelled():
            done.set_exception(error) if error is not None else done.set_result(None)

    def run() -> None:
        error: Exception | None = None
        try:
            work()
        except Exception as raised:
            error = raised
        with suppress(RuntimeError):  # the loop is closed: it ends already
            loop.call_soon_threadsafe(tell, error)

    threading.Thread(target=run, name="start", daemon=True).start()
    await done


async def _watchdog() -> None:
    seconds = notify.watchdog_seconds()
    while seconds is not None:
        notify.tell("WATCHDOG=1")
        await asyncio.sleep(seconds)


def _stop(live: Live, stopping: _Stopping) -> None:
    if not live.stop(stopping.left()):
        _log.warning("what was waiting is decided at the next start; nothing is lost")
    _log.info("stopped")


class _Stopping:
    """Hears signals, from before the store is open until it is closed."""

    def __init__(self) -> None:
        self.serving = False
        self._tell: Callable[[], object] | None = None
        self._deadline: float | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> _Stopping:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._heard)
        # A client that goes away is an error of its socket, not the end of the process.
        self._before[signal.SIGPIPE] = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def tell(self, tell: Callable[[], object]) -> None:
        """Who is told of the first signal; at once, where it came already."""
        self._tell = tell
        if self._deadline is not None:
            tell()

    def left(self) -> float:
        """Seconds until the process has to be gone."""
        if self._deadline is None:
            return END_SECONDS - HTTP_SECONDS
        return max(0.1, self._deadline - time.monotonic() - 1.0)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self._deadline is not None:
            os._exit(128 + number)
        self._deadline = time.monotonic() + END_SECONDS
        end = threading.Timer(END_SECONDS, _end_now)
        end.daemon = True
        end.start()
        if self._tell is not None:
            with suppress(RuntimeError):  # the loop is closed: it ends already
                self._tell()
        elif not self.serving:
            raise KeyboardInterrupt


def _end_now() -> None:
    _log.warning("not done in time; what was acknowledged is on disk, the rest is done at the next start")
    os._exit(0)


def _listener(settings: Settings) -> socket.socket:
    try:
        return bound(*settings.listen)
    except OSError as error:
        raise SettingsError(
            f"{settings.place} cannot be listened on: {error.strerror or error}; another process may have it, or the "
            "address is not of this machine: choose another with --listen HOST:PORT"
        ) from None


def _outward(settings: Settings, listener: socket.socket | None) -> str:
    """Where it is reached, as far as it can tell by itself: by this machine's name, where it listens on all addresses."""
    host, port = settings.listen if listener is None else listener.getsockname()[:2]
    host = socket.gethostname() if host in ("0.0.0.0", "::") else host
    return f"{'http' if settings.tls_cert is None else 'https'}://{settings._replace(listen=(host, port)).place}"


def _bounds(settings: Settings) -> Bounds:
    return Bounds(
        body=settings.max_body,
        in_flight=settings.max_in_flight,
        takes=settings.max_batches,
        streams=settings.max_streams,
        request_seconds=settings.request_timeout,
        lag_seconds=settings.max_lag,
        free=settings.min_free,
    )


def _limits(settings: Settings) -> Limits:
    return Limits(
        connections=settings.max_connections,
        head=settings.max_head,
        head_seconds=settings.head_timeout,
        idle_seconds=settings.idle_timeout,
        stuck_seconds=settings.request_timeout,
    )


def _raise_file_limit() -> None:
    """Every connection is a file: as many as this process may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


# ---- before it runs


def _check_settings(settings: Settings) -> str:
    settings.require_safe()
    if settings.max_in_flight < settings.max_body:
        raise SettingsError(
            f"--max-in-flight ({settings.max_in_flight:,} bytes) is below --max-body ({settings.max_body:,}): a body of that "
            "size would never be taken"
        )
    return "they fit together"


def _check_ledger(settings: Settings) -> str:
    path = path_of(settings.ledger)
    if path is not None and not path.exists():
        if not os.access(path.absolute().parent, os.W_OK | os.X_OK):
            raise LedgerMissing(
                f"{path} is not there, and {path.absolute().parent} is no folder that it could be made in"
            )
        return f"{path} is not there yet, and would be made"
    with app.opened(settings.ledger, allow_volatile=settings.allow_volatile) as store:
        told = f"; {store.durability}" if store.durability else ""
        return f"{shown(settings.ledger)} can be written, and stands at position {store.recorder.head()}{told}"


def _check_address(settings: Settings) -> str:
    with _listener(settings):
        return f"{settings.place} is free" + (
            "" if is_loopback(settings.listen[0]) else ", and other machines reach it"
        )


def _check_certificate(settings: Settings) -> str:
    certificate = settings.certificate
    if certificate is None:
        return "none: plain HTTP"
    for path in filter(None, certificate):
        _readable(path)
    try:
        context_of(certificate)
    except ssl.SSLError as error:
        raise SettingsError(
            f"{certificate.chain} with the key {certificate.key} is no certificate to serve with ({error.reason}); both are "
            "PEM, and the key is the certificate's"
        ) from None
    return f"{certificate.chain}" + (f", clients signed by {certificate.clients}" if certificate.clients else "")


def _check_access(settings: Settings) -> str:
    settings.access(make=False)
    if settings.no_auth:
        return "--no-auth: every program on this machine may do everything"
    told = [f"tokens in {settings.tokens}"] if settings.tokens else []
    told += [f"client certificates of {len(settings.clients)} names"] if settings.clients else []
    if not told:
        made = "" if settings.own_tokens.exists() else ", which would be made"
        told.append(f"the token in {settings.own_tokens}{made}")
    return " and ".join(told)


def _check_told(settings: Settings) -> str:
    found = told(settings, cast(Live, None))
    for path in filter(None, (settings.alert_token_file, settings.alert_ca)):
        _readable(path)
    return ", ".join(outlet.state().name for outlet in found) or "nobody: no webhook, no Events, no projections"


def _check_sources(settings: Settings) -> str:
    told = ["the audit webhook"]
    if settings.watch:
        from adapters.feeds.watch import configuration

        path = None if settings.kubeconfig is None else str(settings.kubeconfig)
        told.append(f"a watch of {configuration(path).cluster.server}")
    told += [shown_source(address) for address in settings.sources]
    told += list(settings.follow)
    return ", ".join(told)


def _readable(path: Path) -> None:
    with path.open("rb"):
        pass


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)
