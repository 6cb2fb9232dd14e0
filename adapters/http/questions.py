"""What is asked: findings, resources, the audit trail. Each is a function of the request, run in a thread of its own.

Routes for more questions are added here and in the table of `routes`. What they answer is made where the command line's
is (`adapters/answering.py`), so that both say the same; here it is read from a request, and told on what it rests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from adapters import finding_documents, reasons, report, trail
from adapters.answering import Answers
from adapters.app import Store
from adapters.http.answers import Problem, answer, flag, prefers_csv, tagged
from adapters.http.service import Service
from adapters.judging import Judged
from adapters.ledger import Moment
from adapters.live import Stand
from adapters.trail import Question
from domain.resources import KINDS, Key, Kind, kind_called
from projections.findings.rule import HEALED, OPEN, PENDING, UNKNOWN

STATUSES = (OPEN, UNKNOWN, PENDING, HEALED)
PAGE, PAGE_MOST = 1_000, 10_000
"""How many events a page has where nobody says, and at most."""
CSV: Final = "text/csv"


class _Now:
    """What holds at the end of what is decided, from the engine's memory: see `answering.Now`."""

    def __init__(self, service: Service, document: dict[str, Any]) -> None:
        self._live = service.live
        self._seconds = service.bounds.request_seconds
        self._document = document

    def coverage(self) -> dict[str, Any]:
        found: dict[str, Any] = self._document["coverage"]
        return found

    def findings(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._document["findings"]
        return found

    def resources(self, kind: str, namespace: str | None = None, name: str | None = None) -> list[dict[str, Any]]:
        with self._live.reading() as reading:
            live = reading.world.live
            if name is not None and namespace is not None:
                key = Key(kind, namespace, name)
                found = [live[key]] if key in live else []
            else:
                found = [
                    one
                    for one in live.values()
                    if one.key.kind == kind and namespace in (None, one.key.namespace) and name in (None, one.key.name)
                ]
            found.sort(key=lambda one: one.key)
            return [report.resource_document(one, reading.standing(one)) for one in found]

    def names(self, kind: str) -> list[str]:
        with self._live.reading() as reading:
            return sorted(key.path for key in reading.world.live if key.kind == kind)

    @contextmanager
    def judged(self, store: Store, moment: Moment | None = None) -> Iterator[Judged]:
        if moment is None:
            with self._live.reading() as reading:
                yield Judged(reading=reading)
        else:
            with self._live.past.judged_at(store, moment, self._seconds) as judged:
                yield judged


class _Asked:
    """One question: where the ledger stands, and who answers."""

    def __init__(self, answers: Answers, stand: Stand, document: dict[str, Any]) -> None:
        self.answers = answers
        self.stand = stand
        self._document = document

    def told(self, request: Request, document: dict[str, Any], position: int | None = None) -> Response:
        """A document, with what it rests on."""
        whole = {**document, **_rests_on(self.stand, self._document)}
        return tagged(request, whole, self.stand.position if position is None else position)


@contextmanager
def _asking(service: Service) -> Iterator[_Asked]:
    stand, document = service.findings()
    with service.live.asked() as store:
        yield _Asked(Answers(store, _Now(service, document)), stand, document)


def findings(request: Request, service: Service) -> Response:
    """What is wrong, as `netledger findings -o json` has it, with what the answer rests on."""
    status, rule = request.query_params.get("status"), request.query_params.get("rule", "").lower()
    if status not in (None, *STATUSES):
        raise Problem(400, f"there is no status {status[:40]!r}; what there is: {', '.join(STATUSES)}")
    stand, document = service.findings()
    rows = list(finding_documents.chosen(document["findings"], status, rule))
    return tagged(request, {"findings": rows, **_rests_on(stand, document)}, stand.position)


def finding(request: Request, service: Service) -> Response:
    """One finding, by its id or the beginning of it."""
    asked = request.path_params["id"]
    stand, document = service.findings()
    rows = finding_documents.called(document["findings"], asked)
    if len(rows) != 1:
        why = f"{len(rows)} findings begin so; give more of its id" if rows else "`/v1/findings` lists them"
        raise Problem(404, f"there is no finding {asked[:100]!r}: {why}")
    return tagged(request, {"finding": rows[0], **_rests_on(stand, document)}, stand.position)


def resources(request: Request, service: Service) -> Response:
    """The live resources of a kind, now or at a moment."""
    kind = _kind(request)
    asked = request.query_params
    with _asking(service) as one:
        return one.told(request, one.answers.resources(kind, asked.get("namespace"), at=asked.get("at")))


def resource(request: Request, service: Service) -> Response:
    """One live resource. Its ETag names the last event on it: `If-Match` of a command takes it."""
    kind = _kind(request)
    key = _key(request, kind)
    last = service.live.position_of(key)
    with _asking(service) as one:
        rows = one.answers.resources(kind, key.namespace, key.name, request.query_params.get("at"))["resources"]
        if not rows:
            raise Problem(404, f"there is no {key}; /v1/history/{kind.name}/{key.path} shows what the log knows of it")
        return one.told(request, {"resource": rows[0]}, last)


def ipset(request: Request, service: Service) -> Response:
    """One ipset with all its members, and what makes it as it should be."""
    asked = request.query_params
    with _asking(service) as one:
        return one.told(request, one.answers.ipset(request.path_params["name"], asked.get("node"), asked.get("at")))


def events(request: Request, service: Service) -> Response:
    """Who did what, on what, when: a page of it, as JSON or as CSV."""
    asked = request.query_params
    question = Question(
        actors=tuple(asked.getlist("actor")),
        kinds=tuple(dict.fromkeys(_kind_called(word, 400).name for word in _each(asked.getlist("kind")))),
        namespaces=tuple(asked.getlist("namespace")),
        name=asked.get("name"),
        selector=asked.get("selector"),
        verbs=_each(asked.getlist("verb")),
        types=_each(asked.getlist("event")),
        refused=flag(request, "refused"),
        reverse=flag(request, "reverse"),
        limit=_limit(request),
        token=asked.get("continue"),
    )
    with _asking(service) as one:
        document = one.answers.events(question, asked.get("since"), asked.get("until"))
        if prefers_csv(request):
            lines = trail.csv_lines(document["events"], headers=True)
            content = "".join(f"{line}\r\n" for line in lines)
            response = Response(content, media_type=CSV)
        else:
            response = one.told(request, document)
        return _leading_on(request, response, document)


def history(request: Request, service: Service) -> Response:
    """What happened to one resource, in the true order, a page of it; of one that is gone, too."""
    key = _key(request, _kind(request))
    asked = request.query_params
    question = Question(reverse=flag(request, "reverse"), limit=_limit(request), token=asked.get("continue"))
    with _asking(service) as one:
        document = one.answers.history(key, question, asked.get("since"), asked.get("until"))
        document["history"] = rows = document.pop("events")
        last = rows[0 if question.reverse else -1]["position"] if rows else None
        return _leading_on(request, one.told(request, document, last), document)


def who(request: Request, service: Service) -> Response:
    """Everyone who wrote to a resource, first and last."""
    key = _key(request, _kind(request))
    with _asking(service) as one:
        return one.told(request, one.answers.who(key))


def known(request: Request, service: Service) -> Response:
    """All actors, verbs and types of events there are."""
    with _asking(service) as one:
        return one.told(request, dict(one.answers.known()))


def diff(request: Request, service: Service) -> Response:
    """What changed of a resource between two moments, and by whom."""
    key = _key(request, _kind(request))
    asked = request.query_params
    with _asking(service) as one:
        document = one.answers.diff(key, asked.get("from"), asked.get("to"), every=flag(request, "all"))
        return one.told(request, document)


def blame(request: Request, service: Service) -> Response:
    """Who made each field of a resource what it is, now or at a moment."""
    kind = _kind(request)
    key = _key(request, kind)
    with _asking(service) as one:
        return one.told(request, one.answers.blame(key, kind, request.query_params.get("at")))


def why(request: Request, service: Service) -> Response:
    """Why a resource is as it is: of now by what the engine has folded, of an earlier moment by folding the log up to it."""
    key = _key(request, _kind(request))
    member = request.query_params.get("member", "")
    if member and key.kind != "ipset":
        raise Problem(400, f"member= is for ipsets, and {key} is none")
    if at := request.query_params.get("at"):
        with _asking(service) as one:
            return one.told(request, one.answers.why(key, member, at))
    stand, document = service.findings()
    with service.live.outcome() as (store, outcome):
        found = reasons.why(store, outcome, key, member, coverage=document["coverage"])
    return tagged(request, {**found, **_rests_on(stand, document)}, stand.position)


def event(request: Request, service: Service) -> Response:
    """One event, by its position."""
    asked = request.path_params["position"]
    position = int(asked) if asked.isascii() and asked.isdecimal() and len(asked) <= 18 else 0
    with service.live.asked() as store:
        for found in store.ledger.events(after=(0, position - 1)) if 0 < position <= store.ledger.head else ():
            if found.position != position:
                break
            return answer({"position": position, "event": msgspec.to_builtins(found.event)})
    raise Problem(404, f"no event of today's generation stands at position {asked[:20]}")


def _rests_on(stand: Stand, document: dict[str, Any]) -> dict[str, Any]:
    """What goes with every answer: how far it goes, and what it cannot speak for."""
    return {
        "ledger": {"generation": stand.generation, "position": stand.position},
        "provisional": document["provisional"],
        "coverage": document["coverage"],
    }


def _leading_on(request: Request, response: Response, document: dict[str, Any]) -> Response:
    """With where the next page is, for who reads no JSON."""
    response.headers["vary"] = "accept"
    if document["continue"] is not None:
        asked = [(name, value) for name, value in request.query_params.multi_items() if name != "continue"]
        following = urlencode([*asked, ("continue", document["continue"])])
        response.headers["link"] = f'<{request.url.path}?{following}>; rel="next"'
    return response


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", str(PAGE))
    if not (text.isascii() and text.isdecimal()) or len(text) > 6 or not 1 <= int(text) <= PAGE_MOST:
        raise Problem(400, f"limit= is a number from 1 to {PAGE_MOST:,}; the rest follows with continue=")
    return int(text)


def _each(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for some in words for word in some.split(",") if word))


def _kind(request: Request) -> Kind:
    return _kind_called(request.path_params["kind"], 404)


def _kind_called(word: str, status: int) -> Kind:
    try:
        return kind_called(word)
    except KeyError:
        raise Problem(
            status, f"there is no kind {word[:60]!r}; the kinds are {', '.join(kind.name for kind in KINDS)}"
        ) from None


def _key(request: Request, kind: Kind) -> Key:
    namespace, name = request.path_params.get("namespace", ""), request.path_params["name"]
    if namespace and not kind.namespaced:
        raise Problem(404, f"{kind.plural} live in no namespace: ask for {kind.name}/NAME")
    if kind.namespaced and kind.served and not namespace:
        raise Problem(404, f"{kind.plural} live in namespaces: ask for {kind.name}/NAMESPACE/NAME")
    return Key(kind.name, namespace, name)
