"""Feeds damaged input to the readers of logs and dumps: nothing may raise, hang, or lose a line.

    python -m tests.fuzzing.readers SECONDS

Inputs are grown by atheris from a few real lines. What is found is left in the current folder as `crash-…`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris  # installed by `make fuzz` alone

with atheris.instrument_imports():
    from adapters.sources import audit_log, cloudevents, dialects, ipset, klog, kubernetes_events, objects  # noqa: F401
    from adapters.sources.dialect import About, Ignored, Recognised, Unknown
    from domain.operations import OrderKey

SEEDS = (
    b"I0704 06:57:37.123456       7 vpc.go:123] handle add/update vpc shop\n",
    b'2026-07-04T06:57:37.1Z stderr P E0704 06:57:37.123456 7 controller.go:1] "Unhandled Error" err="error syncing add '
    b'subnet \\"net\\": no, requeuing" logger="UnhandledError"\n',
    b"I0704 06:57:37.123456       1 ipset.go:5] ipset (ipv6? false) restore looks like:\ncreate TMP-A hash:ip timeout 0\n",
    b"create web hash:ip family inet hashsize 1024 maxelem 65536\nadd web 10.0.0.1 timeout 0\nswap TMP-A web\n",
    b'{"seq":1,"t":"2026-11-21T01:34:20Z","actor":"a","op":"restore-input","text":"create x hash:ip\\nadd x 10.0.0.1"}\n',
    b'{"type":"ADDED","object":{"apiVersion":"kubeovn.io/v1","kind":"Vpc","metadata":{"name":"v","uid":"u",'
    b'"resourceVersion":"7","creationTimestamp":"2026-11-21T01:34:20Z"}}}\n',
    b"apiVersion: kubeovn.io/v1\nkind: Vpc\nmetadata:\n  name: v\n  uid: u\n  resourceVersion: '7'\n",
)


def read_all(data: bytes) -> None:
    """Every reader reads it, and says of every record it recognises what it is."""
    lines = data.split(b"\n")
    for name in dialects.READERS:
        dialect = dialects.called(name)
        assert dialect is not None
        dialect.recognises(lines[: dialects.BEGINNING_LINES])
        source = ((number, line, "") for number, line in enumerate(lines, 1))
        for line, payload, what in dialect.read(source, About(path="x.log", modified=1_780_000_000_000_000)):
            assert 0 < line <= len(lines)
            if isinstance(what, Recognised):
                records = dialects.of(what.identity)
                assert records.heads(what.identity, payload) == what.heads
                for head in what.heads:
                    order = OrderKey(head.revision, 0, head.time, what.identity, head.part)
                    records.operation(payload, order, head.outcome)
            else:
                assert isinstance(what, Ignored | Unknown | str)


if __name__ == "__main__":
    seconds = sys.argv[1] if len(sys.argv) > 1 else "60"
    with tempfile.TemporaryDirectory(prefix="netledger-fuzz-") as corpus:
        for number, seed in enumerate(SEEDS):
            (Path(corpus) / str(number)).write_bytes(seed)
        options = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=10", "-rss_limit_mb=2048", "-verbosity=0"]
        atheris.Setup([sys.argv[0], *options, corpus], read_all)
        atheris.Fuzz()
