"""`GET /metrics`: what is counted, in Prometheus's form. What the engine counts by itself is asked of it at each scrape.

The registry is this daemon's own, so that two in one process (as in tests) do not count together.
"""

from __future__ import annotations

import sys
from collections import Counter as Tally
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from adapters import finding_documents
from adapters.ports import StoreError

if TYPE_CHECKING:
    from adapters.http.service import Service

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """What is counted here, and the page that shows it with the rest."""

    def __init__(self, service: Service) -> None:
        self._registry = CollectorRegistry()
        self._append = Histogram(
            "netledger_append_seconds",
            "From a batch that is read to one that is on disk.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._requests = Counter(
            "netledger_http_requests", "Requests answered.", ("route", "method", "code"), registry=self._registry
        )
        self._seconds = Histogram(
            "netledger_http_request_seconds",
            "From a request's headers to the end of its answer, streams left out.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._registry.register(_Engine(service))
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def appended(self, seconds: float) -> None:
        """A batch was kept in that time."""
        self._append.observe(seconds)

    def answered(self, route: str, method: str, code: int, seconds: float | None) -> None:
        """A request was answered; without a time where it was a stream."""
        self._requests.labels(route, method, str(code)).inc()
        if seconds is not None:
            self._seconds.labels(route).observe(seconds)

    def page(self) -> bytes:
        """All of it. Asks the engine, so not in the event loop's thread."""
        return generate_latest(self._registry)


class _Engine(Collector):
    """What the engine and the entrance say of themselves."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> Iterator[Metric]:
        """Nothing: to name them would ask the engine before it runs."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Asked at each scrape."""
        service = self._service
        try:
            stand, document = service.findings()
        except StoreError:  # it is starting
            stand, document = service.live.stand(), {"findings": []}
        records = CounterMetricFamily(
            "netledger_records", "What sources delivered since the start, by what became of it.", labels=("outcome",)
        )
        by_source = CounterMetricFamily(
            "netledger_source_records", "The same, by source.", labels=("source", "format", "outcome")
        )
        sums: Tally[str] = Tally()
        for inlet in service.live.intake.inlets():
            taken = inlet.taken
            for outcome, count in (
                ("recognised", taken.recognised),
                ("ignored", taken.ignored),
                ("unknown", taken.unknown),
                ("duplicate", taken.duplicates),
                ("quarantined", taken.aside),
            ):
                sums[outcome] += count
                by_source.add_metric((inlet.path, inlet.format, outcome), count)
        for outcome in ("recognised", "ignored", "unknown", "duplicate", "quarantined"):
            records.add_metric((outcome,), sums[outcome])
        yield records
        yield by_source
        yield _counter("netledger_quarantined", "Input kept aside with its reason.", sums["quarantined"])
        yield _counter("netledger_duplicates", "Records that were known already.", sums["duplicate"])
        yield _counter("netledger_late_records", "Records that came later than the window.", stand.late)
        yield _counter("netledger_merges", "Generations begun for late records.", stand.merges)
        yield _gauge("netledger_events", "Events of the current generation.", stand.events)
        yield _gauge("netledger_refusals", "Transitions refused, of the current generation.", stand.refusals)
        yield _gauge("netledger_generation", "The ledger's generation.", stand.generation)
        yield _gauge("netledger_position", "The last event's position in the ledger.", stand.position)
        yield _gauge("netledger_journal_records", "Records in the journal.", stand.received)
        yield _gauge("netledger_lag_records", "Records that are kept and wait to be decided.", stand.undecided)
        yield _gauge("netledger_lag_seconds", "For how long the oldest of them has waited.", stand.lag)
        yield _gauge(
            "netledger_stopped", "1 where the engine stands still; /readyz?verbose says why.", _stopped(service)
        )
        found = GaugeMetricFamily(
            "netledger_findings_open", "Findings that are open now.", labels=("rule", "name", "severity")
        )
        opened = Tally(
            (finding["rule"], finding["name"], finding["severity"])
            for finding in finding_documents.open_ones(document["findings"])
        )
        for labels in _every_rule():  # at nought too: what is not there cannot be seen to rise
            found.add_metric(labels, opened.pop(labels, 0))
        for labels, count in opened.items():
            found.add_metric(labels, count)
        yield found
        yield _gauge("netledger_http_body_bytes_in_flight", "Bytes that requests hold.", service.room.held)
        yield _gauge("netledger_http_batches_in_flight", "Batches being kept.", service.taking)
        yield _gauge("netledger_followers", "Streams of findings that are open.", len(service.followers))
        yield _counter(
            "netledger_followers_dropped", "Streams ended because they read too slowly.", service.followers.dropped
        )
        yield from _told(service)
        yield from self._feeds()
        about = InfoMetricFamily("netledger_build", "The version.")
        about.add_metric((), {"version": _version(), "python": sys.version.split()[0]})
        yield about

    def _feeds(self) -> Iterator[Metric]:
        connected = GaugeMetricFamily(
            "netledger_source_connected", "1 where a source that is fetched could deliver now.", labels=("source",)
        )
        last = GaugeMetricFamily(
            "netledger_source_delivered_timestamp_seconds", "When it delivered last.", labels=("source",)
        )
        failures = CounterMetricFamily(
            "netledger_source_failures", "How often it could not be reached or read.", labels=("source",)
        )
        for feed in self._service.feeds:
            state = feed.state()
            for one in (state, *state.parts):
                name = one.name if one is state else f"{state.name} {one.name}"
                connected.add_metric((name,), int(one.connected))
                last.add_metric((name,), one.last)
                failures.add_metric((name,), one.failures)
        yield from (connected, last, failures)


def _told(service: Service) -> Iterator[Metric]:
    """How those are who are told: alert webhooks, Kubernetes Events, projections."""
    labels = ("kind", "target")
    well = GaugeMetricFamily("netledger_told_up", "1 where what is told is heard.", labels=labels)
    behind = GaugeMetricFamily(
        "netledger_told_behind", "Changes of findings, or positions, that are not told yet.", labels=labels
    )
    last = GaugeMetricFamily(
        "netledger_told_last_timestamp_seconds",
        "When something was heard last; 0 where not since the start.",
        labels=labels,
    )
    sent = CounterMetricFamily("netledger_told_messages", "What was heard.", labels=labels)
    failed = CounterMetricFamily("netledger_told_failures", "Attempts that failed, and were made again.", labels=labels)
    dropped = CounterMetricFamily("netledger_told_dropped", "What was refused for what it says.", labels=labels)
    for outlet in service.outlets:
        state = outlet.state()
        who = (outlet.kind, state.name.rpartition(" ")[2])
        well.add_metric(who, int(state.connected))
        behind.add_metric(who, outlet.behind())
        last.add_metric(who, state.last)
        sent.add_metric(who, outlet.sent)
        failed.add_metric(who, state.failures)
        dropped.add_metric(who, outlet.dropped)
    yield from (well, behind, last, sent, failed, dropped)


def _every_rule() -> Iterator[tuple[str, str, str]]:
    from projections.findings.judge import RULES

    for rule in RULES:
        yield rule.code, rule.name, rule.severity


def _stopped(service: Service) -> int:
    return int(service.live.failure() is not None)


def _version() -> str:
    from importlib.metadata import version

    return version("netledger")


def _counter(name: str, help: str, value: float) -> Metric:
    return CounterMetricFamily(name, help, value=value)


def _gauge(name: str, help: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help, value=value)
