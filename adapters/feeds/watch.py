"""Watches a cluster: lists every kind that is served, and then shows each change as the API server tells it.

What comes in goes on as it was received: a list is a snapshot, and from its revision on a watch shows what happens. The
revision up to which all is on disk is kept with the records, one for each kind, so a restart goes on there. When the API
server has forgotten that revision (410 Gone), the kind is listed anew, and what is known of and not in the list any more
is told: it went, and nobody saw how.

Configuration, certificates, tokens and their rotation are `lightkube`'s, and so is the connection; what it would decode is
wanted raw here. The kinds are watched side by side in one thread. `adapters/intake.py` is next.
"""

from __future__ import annotations

import asyncio
import os
import random
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

import httpx2
import msgspec
import yaml
from lightkube import ConfigError, KubeConfig, SingleConfig
from lightkube.config.client_adapter import AsyncClient, ConnectionParams
from lightkube.config.models import User

from adapters.feeds.feed import Backoff, FeedState, Health, together
from adapters.intake import Inlet, Intake
from adapters.live import Live
from adapters.ports import StoreError
from adapters.sources.api_object import UNREADABLE, revision_of
from adapters.sources.dialect import About, Found
from adapters.sources.objects import FORMAT, IS_ABSENT, Reading
from domain.resources import KINDS, Key, Kind

PAGE_OBJECTS = 500
"""How many objects one answer of a list holds at most."""
WATCH_SECONDS = 300
"""For how long the API server is asked to go on with one watch, at least; up to twice that."""
SILENCE_SECONDS = 150.0
"""After how long without a word a watch is taken for dead: API servers send a bookmark about every minute."""
ANSWER_SECONDS = 30.0
LATER_SECONDS = 60.0
"""How often a kind is looked for that is not installed, or may not be read."""
MOST_SECONDS = 30.0
GATHER_SECONDS = 0.01
"""How long what came waits for what comes right behind it: one commit for both."""
LONGEST_GATHER = 0.2
BATCH_RECORDS = 2_000
BATCH_BYTES = 4 << 20
LINE_BYTES = 32 << 20

SERVED = tuple(kind for kind in KINDS if kind.served)

Known = Callable[[str], Mapping[str, Key]]
"""What of a kind is there, as far as the ledger knows: its uid, and which it is."""

_LOST = "lost:"
"""What stands before a revision that cannot be gone on from, until the kind is listed anew."""
_NOTHING_MISSED = "k8s.io/initial-events-end"


def known_to(live: Live) -> Known:
    """What the ledger of a live engine knows to be there."""

    def known(kind: str) -> Mapping[str, Key]:
        with live.reading() as reading:
            there = reading.world.live
            return {one.uid: key for key, one in there.items() if key.kind == kind and one.uid}

    return known


def configuration(path: str | None = None) -> SingleConfig:
    """How to reach the API server: by a kubeconfig's path, `KUBECONFIG`, the service account in a pod, `~/.kube/config`.

    Raises `StoreError` where there is none, or what there is cannot be used.
    """
    named = path or os.environ.get("KUBECONFIG") or ""
    try:
        if named:
            if not path and os.pathsep in named:
                raise ConfigError("KUBECONFIG names several files, and one is read: give it with --kubeconfig")
            found = KubeConfig.from_file(named)
        elif os.environ.get("KUBERNETES_SERVICE_HOST"):
            found = KubeConfig.from_service_account()
        else:
            found = KubeConfig.from_file("~/.kube/config")
        chosen = found.get()
    except (ConfigError, KeyError, TypeError, ValueError, OSError, yaml.YAMLError, msgspec.ValidationError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise StoreError(
            f"the kubeconfig {named or '~/.kube/config'} cannot be used: {why}; name one with --kubeconfig"
        ) from error
    if chosen is None:
        raise StoreError(f"the kubeconfig {named} has no current-context; set one with kubectl config use-context")
    return chosen if chosen.user is not None else chosen._replace(user=User())


class _Answered(Exception):
    """The API server answered with an error: its code, its words, and after how many seconds it wants to be asked again."""

    def __init__(self, code: int, text: str, after: float = 0.0) -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text
        self.after = after


class _Gone(Exception):
    """The revision to go on from is forgotten; `event` is what the watch said, or would have said."""

    def __init__(self, event: bytes) -> None:
        super().__init__("410 Gone")
        self.event = event


class _Status(msgspec.Struct):
    message: str = ""
    reason: str = ""
    code: int = 0


class _ListMetadata(msgspec.Struct):
    resourceVersion: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _ObjectMetadata(msgspec.Struct):
    uid: str = ""
    name: str = ""
    namespace: str = ""
    resourceVersion: str = ""


class _Object(msgspec.Struct):
    metadata: _ObjectMetadata = msgspec.field(default_factory=_ObjectMetadata)
    code: int = 0


class _List(msgspec.Struct):
    metadata: _ListMetadata = msgspec.field(default_factory=_ListMetadata)
    items: list[_Object] | None = None


class _Event(msgspec.Struct):
    type: str = ""
    object: _Object = msgspec.field(default_factory=_Object)


class _Version(msgspec.Struct):
    version: str = ""


class _Group(msgspec.Struct):
    versions: list[_Version] = []
    preferredVersion: _Version = msgspec.field(default_factory=_Version)


class _Served(msgspec.Struct):
    name: str = ""
    verbs: list[str] = []


class _Resources(msgspec.Struct):
    resources: list[_Served] = []


class Watch:
    """A feed: every kind of one cluster.

    `known` is asked what the ledger knows to be there, when a kind has to be listed anew; without it that is only what was
    seen since this process began.
    """

    def __init__(
        self,
        intake: Intake,
        kubeconfig: str | None = None,
        *,
        cluster: str | None = None,
        known: Known | None = None,
        kinds: Sequence[Kind] = SERVED,
    ) -> None:
        """`cluster` is its name among the sources: the same over restarts. Raises `StoreError`: no usable configuration."""
        self.intake = intake
        self.known = known
        self._kubeconfig = kubeconfig
        self._config = configuration(kubeconfig)
        self.name = f"watch {cluster or self._config.cluster.server}"
        self._client: httpx2.AsyncClient | None = None
        self._kinds = [_Kind(self, kind) for kind in kinds]
        self._asking = asyncio.Lock()
        self._groups: dict[str, tuple[float, dict[str, str]]] = {}  # when it was asked, and the version of each plural

    def run(self, stop: threading.Event) -> None:
        """Deliver until `stop` is set."""
        asyncio.run(self._run(stop))

    def state(self) -> FeedState:
        """How it is now; its parts are the kinds."""
        return together(self.name, tuple(kind.health.state() for kind in self._kinds))

    async def _run(self, stop: threading.Event) -> None:
        tasks = [asyncio.create_task(kind.run()) for kind in self._kinds]
        try:
            while not stop.is_set():
                await asyncio.sleep(0.1)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._client is not None:
                await self._client.aclose()

    # ---- requests

    def client(self) -> httpx2.AsyncClient:
        """The connection, made anew from the configuration where it was dropped."""
        if self._client is None:
            self._config = configuration(self._kubeconfig)
            timeout = httpx2.Timeout(ANSWER_SECONDS, connect=10.0)
            try:
                self._client = AsyncClient(self._config, ConnectionParams(timeout=timeout))
            except (ConfigError, OSError, ValueError) as error:
                raise StoreError(
                    f"the certificates of the kubeconfig cannot be used: {' '.join(str(error).split())}"
                ) from error
        return self._client

    async def renew(self, client: httpx2.AsyncClient | None = None) -> None:
        """Read the configuration again before the next request: certificates and tokens are replaced in their files.

        Where `client` is given and is not the one in use any more, another kind has done so.
        """
        used = self._client
        if used is not None and client in (None, used):
            self._client = None
            await used.aclose()

    def forget_versions(self, kind: Kind) -> None:
        """Ask again what its group serves: it changed."""
        self._groups.pop(kind.group, None)

    async def get(self, path: str, **parameters: str) -> bytes:
        """The whole of an answer. Raises `_Answered`, `_Gone`, and what the connection raises."""
        client = self.client()
        answer = await client.get(path, params=parameters)
        if answer.status_code != 200:
            await self.refused(client, answer.status_code, answer.content, answer.headers.get("Retry-After", ""))
        return answer.content

    async def refused(self, client: httpx2.AsyncClient, code: int, body: bytes, after: str) -> None:
        """Raise what an answer's error means."""
        if code == 410:
            raise _Gone(b'{"type":"ERROR","object":' + body.strip() + b"}")
        if code == 401:
            await self.renew(client)
        try:
            text = msgspec.json.decode(body, type=_Status).message
        except UNREADABLE:
            text = body[:200].decode("utf-8", "replace")
        raise _Answered(code, " ".join(text.split())[:300], min(float(after), MOST_SECONDS) if after.isdecimal() else 0)

    async def path_of(self, kind: Kind) -> str:
        """Where a kind is served, in the version that the API server prefers. Raises `_Answered` (404) where it is not."""
        async with self._asking:  # of a group, by the first of its kinds
            return await self._path_of(kind)

    async def _path_of(self, kind: Kind) -> str:
        base = f"/apis/{kind.group}" if kind.group else "/api"
        asked, versions = self._groups.get(kind.group, (0.0, {}))
        if not asked or (kind.plural not in versions and time.monotonic() - asked > LATER_SECONDS / 2):
            versions = {}
            group = msgspec.json.decode(await self.get(base), type=_Group) if kind.group else _Group([_Version("v1")])
            offered = [group.preferredVersion, *group.versions]
            for version in dict.fromkeys(one.version for one in offered if one.version):
                served = msgspec.json.decode(await self.get(f"{base}/{version}"), type=_Resources)
                for one in served.resources:
                    if "watch" in one.verbs and "list" in one.verbs:
                        versions.setdefault(one.name, version)
            self._groups[kind.group] = (time.monotonic(), versions)
        if kind.plural not in versions:
            raise _Answered(404, f"{kind.api} is not served")
        return f"{base}/{versions[kind.plural]}/{kind.plural}"


class _Kind:
    """One kind of the cluster."""

    def __init__(self, watch: Watch, kind: Kind) -> None:
        self.watch = watch
        self.kind = kind
        self.health = Health(kind.api)
        self._inlet: Inlet | None = None
        self._reading = Reading()
        self._there: dict[str, Key] = {}  # by uid
        self._backoff = Backoff(0.2, MOST_SECONDS)

    async def run(self) -> None:
        """List and watch for ever; what goes wrong is waited out."""
        while True:
            wait = 0.0
            try:
                await self._once()
                continue
            except _Answered as error:
                wait = self._answered(error)
            except StoreError as error:
                self.health.failed(str(error))
            except Exception as error:
                # Of the connection's many ways to break, and whatever else: the other kinds go on, and so does this.
                self.health.failed(await self._broken(error))
            await asyncio.sleep(max(wait, self._backoff.next()))

    def _answered(self, error: _Answered) -> float:
        """What an error of the API server means; for how long to wait at least."""
        match error.code:
            case 404:
                self.watch.forget_versions(self.kind)
                self.health.waiting("it is not installed in the cluster, and looked for again each minute")
                return LATER_SECONDS * random.uniform(0.8, 1.0)
            case 403:
                self.health.failed(
                    f"it may not be read ({error.text}): grant get, list and watch on {self.kind.api}; the other kinds go on"
                )
                return LATER_SECONDS * random.uniform(0.8, 1.0)
            case 401:
                self.health.failed(
                    "the API server does not know who asks (401): the token or client certificate has expired or is "
                    "wrong; put a valid one where the kubeconfig says, it is read again"
                )
            case _:
                self.health.failed(f"the API server answers {error}")
        return error.after

    async def _broken(self, error: Exception) -> str:
        """What an error of the connection means."""
        text = " ".join(str(error).split()) or type(error).__name__
        link: BaseException | None = error
        while link is not None:
            if isinstance(link, ssl.SSLError):
                await self.watch.renew()
                return f"the API server's certificate or ours is refused: {text}; the kubeconfig is read again"
            link = link.__cause__ or link.__context__
        return f"the connection to the API server broke: {text}; it is tried again"

    async def _once(self) -> None:
        """One list if one is due, and one watch, until it ends."""
        path = await self.watch.path_of(self.kind)
        if self._inlet is None:
            about = About(path=f"{self.watch.name} {self.kind.api}")
            self._inlet = await asyncio.to_thread(self.watch.intake.inlet, about.path, FORMAT, about)
        if not self._inlet.resume or self._inlet.resume.startswith(_LOST):
            await self._list(path)
        # A watch that begins at a revision shows what happens from there on, and nothing that was there before.
        self._reading = Reading()
        list(self._reading.take(1, _bookmark(self._inlet.resume)))
        try:
            await self._watch(path, self._inlet.resume)
        except _Gone as gone:
            self.health.failed(f"the API server has forgotten revision {self._inlet.resume}: listing anew")
            # Kept before the list is asked for: whoever is killed between the two lists anew, and knows why.
            await self._keep(list(self._reading.take(1, gone.event)), f"{_LOST}{self._inlet.resume}")

    # ---- list

    async def _list(self, path: str) -> None:
        """Keep all that is there, and say from which revision on it is watched."""
        self._reading = Reading()
        there: dict[str, Key] = {}
        parameters = {"limit": str(PAGE_OBJECTS)}
        revision = ""
        while True:
            try:
                page = await self.watch.get(path, **parameters)
            except _Gone:
                raise _Answered(
                    410, "the pages of the list came too slowly; it is asked for from the beginning"
                ) from None
            told = msgspec.json.decode(page, type=_List)
            revision = told.metadata.resourceVersion
            for item in told.items or []:
                there[item.metadata.uid] = self._key(item.metadata)
            found = list(self._reading.take(1, page.strip()))
            for first in range(0, len(found), BATCH_RECORDS):
                await self._keep(found[first : first + BATCH_RECORDS], None)
            if not told.metadata.continue_:
                break
            parameters["continue"] = told.metadata.continue_
        if not (revision_of(revision) or 0):
            raise _Answered(200, f"a list of {self.kind.api} without a resourceVersion")
        assert self._inlet is not None
        missed = await asyncio.to_thread(self._missed, there) if self._inlet.resume else []
        api_version = path.removeprefix("/apis/").removeprefix("/api/").rpartition("/")[0]
        found = [
            one
            for key, uid in missed
            for one in self._reading.take(1, _absent(self.kind, api_version, key, uid, revision))
        ]
        await self._keep(found, revision)
        self._there = there

    def _missed(self, there: dict[str, Key]) -> list[tuple[Key, str]]:
        """What is known of and not in the list, with its uid."""
        known = dict(self._there)
        if self.watch.known is not None:
            known = {**self.watch.known(self.kind.name), **known}
        return sorted((key, uid) for uid, key in known.items() if uid not in there)

    # ---- watch

    async def _watch(self, path: str, revision: str) -> None:
        client = self.watch.client()
        parameters = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": revision,
            "timeoutSeconds": str(random.randint(WATCH_SECONDS, 2 * WATCH_SECONDS)),
        }
        timeout = httpx2.Timeout(ANSWER_SECONDS, connect=10.0, read=SILENCE_SECONDS)
        began = time.monotonic()
        silent = True
        async with client.stream("GET", path, params=parameters, timeout=timeout) as answer:
            if answer.status_code != 200:
                await self.watch.refused(
                    client, answer.status_code, await answer.aread(), answer.headers.get("Retry-After", "")
                )
            self.health.well()
            async for lines in _gathered(_lines(answer)):
                found: list[Found] = []
                silent = False
                for line in lines:
                    try:
                        event = msgspec.json.decode(line, type=_Event)
                    except UNREADABLE:  # kept aside by the reader, which says why
                        event = _Event()
                    if event.type == "ERROR":
                        await self._keep(found, revision)
                        if event.object.code == 410:
                            raise _Gone(line)
                        raise _Answered(event.object.code, _said(line))
                    found += self._reading.take(1, line)
                    self._noted(event)
                    revision = event.object.metadata.resourceVersion or revision
                await self._keep(found, revision)
                self._backoff.reset()
        if silent:
            await self._not_ahead(path, revision)
        # One that ends at once, again and again, is no watch.
        if time.monotonic() - began < 1.0:
            await asyncio.sleep(self._backoff.next())

    async def _not_ahead(self, path: str, revision: str) -> None:
        """A watch from a revision that is not there yet says nothing for ever: so it is when etcd was restored from a backup.

        Raises `_Gone` where it is so.
        """
        now = msgspec.json.decode(await self.watch.get(path, limit="1"), type=_List).metadata.resourceVersion
        if (revision_of(now) or 0) < (revision_of(revision) or 0):
            why = f"revision {revision} was reached, and the API server is at {now}: it was restored from a backup"
            status = {"kind": "Status", "apiVersion": "v1", "message": why, "reason": "Expired", "code": 410}
            raise _Gone(msgspec.json.encode({"type": "ERROR", "object": status}))

    def _noted(self, event: _Event) -> None:
        metadata = event.object.metadata
        if event.type == "DELETED":
            self._there.pop(metadata.uid, None)
        elif event.type != "BOOKMARK" and metadata.uid:
            self._there[metadata.uid] = self._key(metadata)

    def _key(self, metadata: _ObjectMetadata) -> Key:
        return Key(self.kind.name, metadata.namespace if self.kind.namespaced else "", metadata.name)

    async def _keep(self, found: list[Found], revision: str | None) -> None:
        assert self._inlet is not None
        if found or revision is not None:
            await _to_its_end(asyncio.to_thread(self._inlet.keep, found, resume=revision))
            self.health.delivered(self._inlet.resume)


# ---- a stream


async def _lines(answer: httpx2.Response) -> AsyncIterator[bytes]:
    """The whole lines of an answer, as received; one that breaks off in the middle is none: it comes again."""
    pieces: list[bytes] = []
    size = 0
    with suppress(httpx2.ReadTimeout):  # silence: the watch is begun anew
        async for chunk in answer.aiter_bytes():
            first, *more = chunk.split(b"\n")
            pieces.append(first)
            size += len(first)
            if size > LINE_BYTES:
                raise _Answered(200, f"an event longer than {LINE_BYTES >> 20} MiB")
            for line in more:
                if whole := b"".join(pieces).strip():
                    yield whole
                pieces, size = [line], len(line)


async def _gathered(lines: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """Lines that came close behind one another, together. What came before the stream broke is given first."""
    coming: asyncio.Task[bytes] | None = None

    async def following() -> bytes:
        return await anext(lines)

    try:
        while True:
            held: list[bytes] = []
            size = 0
            began = 0.0
            try:
                while not held or (
                    len(held) < BATCH_RECORDS and size < BATCH_BYTES and time.monotonic() - began < LONGEST_GATHER
                ):
                    coming = coming or asyncio.create_task(following())
                    done, _ = await asyncio.wait({coming}, timeout=GATHER_SECONDS if held else None)
                    if not done:
                        break
                    task, coming = coming, None
                    line = task.result()
                    began = began or time.monotonic()
                    held.append(line)
                    size += len(line)
            except StopAsyncIteration:
                if held:
                    yield held
                return
            except Exception:
                if held:
                    yield held
                raise
            yield held
    finally:
        if coming is not None:
            coming.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration, Exception):
                await coming


async def _to_its_end(work: Coroutine[Any, Any, Any]) -> None:
    """Wait for something that goes on in another thread, also when this is told to stop meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


def _bookmark(revision: str) -> bytes:
    """What tells the reader that all that was there has been shown, and what comes happens now. It is no record."""
    metadata = {"resourceVersion": revision, "annotations": {_NOTHING_MISSED: "true"}}
    return msgspec.json.encode({"type": "BOOKMARK", "object": {"metadata": metadata}})


def _absent(kind: Kind, api_version: str, key: Key, uid: str, revision: str) -> bytes:
    """That a list at a revision lacks an object: what the reader takes for it."""
    metadata = {"name": key.name, "namespace": key.namespace, "uid": uid, "resourceVersion": revision}
    body = {"apiVersion": api_version, "kind": kind.title, "metadata": metadata}
    return msgspec.json.encode({"type": IS_ABSENT, "object": body})


def _said(line: bytes) -> str:
    class _Told(msgspec.Struct):
        object: _Status

    return msgspec.json.decode(line, type=_Told).object.message
