"""Kubernetes Events: what opens and heals, told on the resource itself, where `kubectl describe` shows it.

An Event's name follows from what it tells, so that the same told again (after a kill, by a restart) is refused by the API
server as there already, and is no second one. They are written at a bounded rate; what waits meanwhile waits on disk.
`outlets.py` has the loop, `adapters/feeds/watch.py` how the API server is found.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, ClassVar, Final

import httpx2
import msgspec
from lightkube import ConfigError
from lightkube.config.client_adapter import Client, ConnectionParams

from adapters import report
from adapters.alerting import answered
from adapters.changes import OPENED, WITHDRAWN, Change
from adapters.feeds.watch import configuration
from adapters.live import Live
from adapters.outlets import ANSWER_SECONDS, SEVERITIES, NotHeard, Teller
from domain.resources import BY_NAME
from projections.findings.rule import HEALED

CONTROLLER: Final = "netledger"
NOTE_BYTES: Final = 1_000
"""The API server takes a kilobyte."""
BURST: Final = 25
A_SECOND: Final = 5.0
_ENDED = "is being terminated"


class KubernetesEvents(Teller):
    """Tells one cluster."""

    kind: ClassVar[str] = "kubernetes-events"
    broken: ClassVar[tuple[type[Exception], ...]] = (httpx2.HTTPError, httpx2.InvalidURL, ConfigError)

    def __init__(
        self,
        live: Live,
        kubeconfig: str | None = None,
        severities: Collection[str] = SEVERITIES,
        *,
        rate: float = A_SECOND,
    ) -> None:
        """`rate` is how many a second, after a burst. Raises `StoreError`: no usable configuration."""
        self._kubeconfig = kubeconfig
        server = configuration(kubeconfig).cluster.server
        super().__init__(live, f"kubernetes-events {server}", f"Kubernetes Events {server}", severities)
        self._client: httpx2.Client | None = None
        self._instance = f"{CONTROLLER}-{socket.gethostname()}"[:128]
        self._rate = rate
        self._room = float(BURST)
        self._looked = time.monotonic()

    def tell(self, changes: Sequence[Change], stop: threading.Event) -> bool:
        """Each that opens or ends, in their order."""
        for change in changes:
            if self.wanted(change) and change.is_open != change.was_open:
                if _nowhere(change.finding["resource"]):
                    self.drop(change.finding["id"], "no source says on which node the set lies (--node)")
                    continue
                if not self._has_room(stop):
                    return False
                self._post(event(change, self._instance))
        return True

    def close(self) -> None:
        """Let go of the connection; the configuration is read again before the next."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _has_room(self, stop: threading.Event) -> bool:
        while not stop.is_set():
            now = time.monotonic()
            self._room = min(self._room + (now - self._looked) * self._rate, float(BURST))
            self._looked = now
            if self._room >= 1.0:
                self._room -= 1.0
                return True
            stop.wait((1.0 - self._room) / self._rate)
        return False

    def _post(self, body: dict[str, Any]) -> None:
        if self._client is None:
            timeout = httpx2.Timeout(ANSWER_SECONDS)
            try:
                self._client = Client(configuration(self._kubeconfig), ConnectionParams(timeout=timeout))
            except (ConfigError, OSError, ValueError) as error:
                raise NotHeard(f"the kubeconfig cannot be used: {' '.join(str(error).split())}") from error
        path = f"/apis/events.k8s.io/v1/namespaces/{body['metadata']['namespace']}/events"
        code, said = answered(self._client, path, msgspec.json.encode(body))
        if 200 <= code < 300:
            self.heard()
        elif code == 409:
            self.heard()  # it is there already: told before, and the answer was lost
        elif code in (400, 404, 413, 422) or (code == 403 and _ENDED in said):
            # The resource's namespace is gone or going, or the API server takes no such Event: nor would it later.
            self.drop(body["metadata"]["name"], f"{code} {said}")
        elif code == 403:
            raise NotHeard("it answers 403: grant create on events.events.k8s.io in all namespaces")
        elif code == 401:
            raise NotHeard("it answers 401: the token or client certificate has expired or is wrong")
        else:
            raise NotHeard(f"the API server answers {code} {said}".strip())


def event(change: Change, instance: str) -> dict[str, Any]:
    """An `events.k8s.io/v1` Event of a finding that opens or ends."""
    finding = change.finding
    regarding = _regarding(finding["resource"])
    what = OPENED if change.is_open else HEALED if finding["status"] == HEALED else WITHDRAWN
    # Of one resource in one cluster (by its uid), one rule's finding and when it began and ended: told once.
    moments = [finding["since"]["at"], (finding["until"] or {}).get("at", "")]
    digest = blake2b(repr([finding["id"], regarding, what, *moments]).encode(), digest_size=8).hexdigest()
    words = (
        re.sub(r"[^a-z0-9]+", "-", finding["resource"]["name"].lower()).strip("-")[:200] or finding["resource"]["kind"]
    )
    moment = datetime.fromtimestamp(change.time / 1_000_000, UTC).isoformat(timespec="microseconds")
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"{words}.{digest}",
            # Of what lives in no namespace, an Event lives in this one: the API server takes no other.
            "namespace": regarding.get("namespace") or "default",
            "labels": {"app.kubernetes.io/managed-by": CONTROLLER},
        },
        "type": "Warning" if change.is_open else "Normal",
        "reason": "".join(word.capitalize() for word in finding["name"].split("-")),
        "action": what.capitalize(),
        "note": _note(finding, what),
        "regarding": regarding,
        "eventTime": moment.replace("+00:00", "Z"),
        "reportingController": CONTROLLER,
        "reportingInstance": instance,
    }


def _regarding(resource: dict[str, Any]) -> dict[str, Any]:
    kind = BY_NAME[resource["kind"]]
    if not kind.served:
        # An ipset is in a node's kernel: what is wrong with it is told on the node, whose Events go by its name.
        node = resource["namespace"]
        return {"apiVersion": "v1", "kind": "Node", "name": node, "uid": node}
    found = {
        "apiVersion": f"{kind.group}/v1" if kind.group else "v1",
        "kind": kind.title,
        "namespace": resource["namespace"],
        "name": resource["name"],
        "uid": resource["uid"],
    }
    return {name: value for name, value in found.items() if value}


def _nowhere(resource: dict[str, Any]) -> bool:
    """Whether there is no object that an Event could stand on."""
    return not (BY_NAME[resource["kind"]].served or resource["namespace"])


def _note(finding: dict[str, Any], what: str) -> str:
    match what:
        case "opened":
            text = f"{report.title(finding)}: {finding['explanation']} {finding['consequence']}".strip()
            asked = f" (netledger explain {finding['rule']})"
        case "healed":
            healed = finding["until"]
            text, asked = f"healed: {report.title(finding)}, at {healed['at']} by {healed['actor'] or 'somebody'}", ""
        case _:
            text, asked = f"not certain any more: {report.title(finding)}", ""
    room = NOTE_BYTES - len(asked.encode())
    data = text.encode()
    short = text if len(data) <= room else data[: room - 3].decode("utf-8", "ignore") + "…"
    return short + asked
