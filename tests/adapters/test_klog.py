"""klog as it is found: behind every prefix, without year and zone, in pieces, over several files; and what becomes of it."""

import json
import os
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from eventsourcing.dcb.popo import InMemoryDCBRecorder
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.ingest import ingest
from adapters.judging import judge
from adapters.ledger import Ledger
from adapters.sources import dialects, klog, log_prefixes
from adapters.sources.dialect import About, Found, Ignored, Recognised, Unknown
from adapters.sources.klog_runs import APART, LASTS, Runs
from adapters.stores.memory import InMemoryJournal
from benchmarks.klog import BEGINNING, header, lines
from domain.events import ACT_LOGGED, RUN_FAILED, RUN_STARTED
from domain.operations import TESTIFIED, Operation, OrderKey
from domain.resources import Key
from tests.replaying import DATA, conclude, replay

LINE = "I0704 06:57:37.123456       7 vpc.go:123] handle add/update vpc shop"
TIME = "2026-07-04T06:57:37.123456Z"
WRITTEN = int(datetime(2026, 7, 20, tzinfo=UTC).timestamp()) * 1_000_000
"""When the file was last written."""

PREFIXES = {
    "none": "{}",
    "kubectl": "[pod/kube-ovn-controller-5d9c/kube-ovn-controller] {}",
    "kubectl with times": "[pod/kube-ovn-controller-5d9c/kube-ovn-controller] 2026-07-04T06:57:37.123999999Z {}",
    "pod and container": "kube-ovn-controller-5d9c kube-ovn-controller {}",
    "stern with times": "kube-ovn-controller-5d9c kube-ovn-controller 2026-07-04T06:57:37.124000000Z {}",
    "times": "2026-07-04T06:57:37.123999999Z {}",
    "times of another zone": "2026-07-04T14:57:37.123999999+08:00 {}",
    "CRI": "2026-07-04T06:57:37.124000000Z stderr F {}",
    "syslog": "Jul  4 06:57:37 node-1 kube-ovn-controller[812]: {}",
    "syslog with priority": "<30>Jul  4 06:57:37 node-1 kube-ovn: {}",
    "journald": "Jul 04 06:57:37 node-1 k3s[812]: {}",
    "journald, ISO": "2026-07-04T06:57:37+0000 node-1 k3s[812]: {}",
    "grep -r": "logs/kube-ovn/controller.log:{}",
    "grep -rn": "./controller.log:812:{}",
    "grep -rn -A": "./controller.log-812-{}",
    "grep -n": "812:{}",
    "editor": "Line 49474: {}",
    "indented": "    {}",
    "editor over grep over CRI": "Line 3: controller.log:812:2026-07-04T06:57:37.124000000Z stderr F {}",
    "bold": "**{}**",
}


def read(text: bytes | str, about: About | None = None) -> list[Found]:
    data = text.encode() if isinstance(text, str) else text
    numbered = [(number, line, "") for number, line in enumerate(data.split(b"\n"), 1)]
    return list(klog.read(iter(numbered), about or About(modified=WRITTEN)))


def recognised(text: bytes | str, about: About | None = None) -> list[Recognised]:
    return [one.what for one in read(text, about) if isinstance(one.what, Recognised)]


def operations(text: bytes | str, about: About | None = None) -> list[Operation]:
    return [
        klog.operation(one.payload, OrderKey(0, 1, head.time, one.what.identity, head.part), TESTIFIED)
        for one in read(text, about)
        if isinstance(one.what, Recognised)
        for head in klog.heads(one.what.identity, one.payload)
    ]


def records(found: list[Found]) -> int:
    return sum(one.what.records if isinstance(one.what, Ignored | Unknown) else 1 for one in found)


def docker(line: str, end: str = "\n") -> str:
    return json.dumps({"log": line + end, "stream": "stderr", "time": "2026-07-04T06:57:37.124000000Z"})


# ---- prefixes


@pytest.mark.parametrize("prefix", [*PREFIXES, "Docker", "no letter"])
def test_a_line_is_the_same_record_behind_every_prefix(prefix):
    """Given one line carried in two ways, when both files are read, then it is one record with one fingerprint."""
    carried = {"Docker": docker(LINE), "no letter": LINE[1:]}.get(prefix) or PREFIXES[prefix].format(LINE)
    assert klog.recognises([b"", carried.encode()])
    assert dialects.recognise([carried.encode()]) is klog
    (plain,), (other,) = recognised(LINE), recognised(carried)
    assert (other.identity, other.fingerprint, other.heads) == (plain.identity, plain.fingerprint, plain.heads)
    assert other.time == TIME


@pytest.mark.parametrize("prefix", [name for name in PREFIXES if name != "bold"])  # which is put around one line
def test_what_follows_a_header_comes_without_its_prefix_too(prefix):
    """Given a record of two lines, each behind the prefix, then its text is that of the lines alone."""
    text = "E0704 06:57:37.123456       7 vpc.go:9] error syncing 'shop': first\n  second, requeuing"
    (plain,) = operations(text)
    (other,) = operations("\n".join(PREFIXES[prefix].format(line) for line in text.split("\n")))
    assert plain.reason == other.reason == "first\n  second" or prefix == "indented"
    assert (plain.testimony, plain.key) == (other.testimony, other.key)


def test_what_looks_like_no_log_is_not_taken_for_one():
    for line in (
        b"",
        b"{}",
        b'{"kind":"Event"}',
        b"I0704 vpc.go:1] x",
        b"I0704 06:57:37 7 vpc.go:1] x",
        b"create x hash:ip",
    ):
        assert not klog.recognises([line]), line
    quoted = b'user said "I0704 06:57:37.123456       7 vpc.go:123] handle add/update vpc shop", and went'
    assert not klog.recognises([quoted])


def test_lines_that_the_runtime_cut_are_put_together():
    start = LINE[:60]
    pieces = [f"2026-07-04T06:57:37.2Z stderr P {start}", f"2026-07-04T06:57:37.2Z stderr F {LINE[60:]}"]
    following = f"2026-07-04T06:57:38.2Z stderr F {LINE}"
    first, second = recognised("\n".join([*pieces, following.replace("37.123456", "38.000000")]))
    assert first.identity == recognised(LINE)[0].identity
    assert second.time == "2026-07-04T06:57:38.000000Z"
    (whole,) = recognised("\n".join([docker(start, ""), docker(LINE[60:])]))
    assert whole.identity == first.identity


def test_a_cut_line_without_its_end_is_kept_aside():
    found = read(f"2026-07-04T06:57:37.2Z stderr P {LINE[:60]}\n{LINE}")
    assert [one.what for one in found if isinstance(one.what, str)] == [klog.BROKEN]
    assert records(found) == 2
    assert read(f"2026-07-04T06:57:37.2Z stderr P {LINE[:60]}")[-1].what == klog.BROKEN


# ---- records


def test_what_stands_before_the_first_header_is_kept_aside_and_the_rest_is_of_the_record_before():
    found = read(f"Defaulted container\n\n{LINE}\ngoroutine 1\n\nmain.main()\nI0704 06:57:38.000000 7 x.go:1] whatever")
    assert [one.what for one in found if isinstance(one.what, str)] == [klog.HEADLESS]
    assert records(found) == 3
    (one,) = [one for one in found if isinstance(one.what, Recognised)]
    assert one.payload == LINE.encode() + b"\ngoroutine 1\n\nmain.main()"
    assert one.line == 3


def test_a_record_without_end_is_cut_and_says_so():
    long = "\n".join(["x" * 1000] * 3000)
    found = read(f"{LINE}\n{long}\n{LINE.replace('37.123456', '38.000000')}")
    assert [one.what for one in found if isinstance(one.what, str)] == [klog.CUT]
    first, second = [one for one in found if isinstance(one.what, Recognised)]
    assert len(first.payload) <= klog.RECORD_BYTES
    assert second.payload == LINE.replace("37.123456", "38.000000").encode()


def test_a_line_that_is_too_long_for_a_record_is_cut_too():
    found = read(f"{LINE}{'x' * klog.RECORD_BYTES}\n{LINE}")
    assert [one.what for one in found if isinstance(one.what, str)] == [klog.CUT]
    assert all(len(one.payload) <= klog.RECORD_BYTES for one in found)


def test_bytes_that_are_no_text_survive():
    (one,) = operations(LINE.encode() + b"\n\xff\xfe")
    assert one.reason == "handle add/update vpc shop\n\ufffd\ufffd"


def test_a_damaged_line_is_kept_aside_and_the_rest_goes_on():
    given_lines = [
        (1, LINE.encode(), ""),
        (2, LINE.encode(), "too long"),
        (3, LINE.replace("shop", "bill").encode(), ""),
    ]
    found = list(klog.read(iter(given_lines), About(modified=WRITTEN)))
    assert [one.what if isinstance(one.what, str) else "" for one in found] == ["", "too long", ""]


# ---- time


def stamped(text: str, year: int) -> str:
    """The UTC time of a header, in the year that is given."""
    return recognised(LINE.replace("0704 06:57:37.123456", text), About(year=year))[0].time


def test_the_year_is_the_one_that_is_given():
    assert stamped("0704 06:57:37.123456", 2019).startswith("2019-07-04")
    assert stamped("0229 06:57:37.123456", 2024).startswith("2024-02-29")


def test_a_zone_that_is_given_is_the_containers():
    about = About(year=2026, timezone=timezone(timedelta(hours=8)))
    assert recognised(LINE, about)[0].time == "2026-07-03T22:57:37.123456Z"


def test_a_clock_in_front_shows_year_and_zone():
    """Given CRI's time in UTC, and a header eight hours ahead, then the container was in UTC+8."""
    local = LINE.replace("06:57", "14:57")
    assert recognised(f"2031-07-04T06:57:37.124Z stderr F {local}", About())[0].time == TIME.replace("2026", "2031")
    assert recognised(f"2027-01-01T00:00:01Z {LINE.replace('0704 06:57:37', '1231 23:59:59')}", About())[
        0
    ].time.startswith("2026-12-31T23:59:59")


def test_without_either_the_file_cannot_hold_what_came_after_it_was_written():
    day = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
    about = About(modified=int(day) * 1_000_000)
    assert recognised(LINE, about)[0].time.startswith("2025-07-04")
    assert recognised(LINE.replace("0704", "0228"), about)[0].time.startswith("2026-02-28")
    assert recognised(LINE.replace("0704", "0229"), about)[0].time.startswith("2024-02-29")


def test_a_log_that_nothing_dates_is_kept_aside_and_says_what_to_do():
    assert [one.what for one in read(LINE, About())] == [klog.UNDATED]
    assert [one.what for one in read(LINE.replace("0704", "0230"), About(year=2026))] == [klog.IMPOSSIBLE]
    assert [one.what for one in read(LINE.replace("06:57", "25:57"))] == [klog.IMPOSSIBLE]


@pytest.mark.parametrize(
    "about", [About(year=2025), About(modified=int(datetime(2026, 1, 9, tzinfo=UTC).timestamp()) * 10**6)]
)
def test_the_turn_of_the_year_is_noticed(about):
    """Given a log over new year, with a line out of order, then each line is in its own year."""
    days = ["1230 10:00:00", "1231 23:59:59", "0101 00:00:00", "1231 23:59:58", "0102 10:00:00"]
    text = "\n".join(LINE.replace("0704 06:57:37", day) for day in days)
    years = [one.time[:10] for one in recognised(text, about)]
    assert years == ["2025-12-30", "2025-12-31", "2026-01-01", "2025-12-31", "2026-01-02"]


@given(
    start=st.datetimes(min_value=datetime(2001, 1, 1), max_value=datetime(2030, 1, 1)),
    steps=st.lists(st.integers(min_value=-2, max_value=150), min_size=1, max_size=40),
)
@settings(deadline=None)
def test_a_log_that_has_a_line_every_five_months_is_dated_all_through(start, steps):
    """Given the right year of its first line, when a log goes on for years, then no line of it is in a wrong one."""
    times = [start]
    for days in steps:
        times.append(times[-1] + timedelta(days=days, hours=1))
    text = "\n".join(LINE.replace("0704 06:57:37.123456", f"{when:%m%d %H:%M:%S.%f}") for when in times)
    assert [one.time for one in recognised(text, About(year=start.year))] == [
        f"{when:%Y-%m-%dT%H:%M:%S.%f}Z" for when in times
    ]


# ---- runs


def said(when: int, file: str, words: str) -> str:
    """A line, `when` microseconds after the beginning."""
    return header(file, 100, BEGINNING + timedelta(microseconds=when)) + words


EIP = ("vpc_nat_gw_eip.go", "handle add iptables eip eip-1")
ACT = ("vpc_nat_gateway.go", "bash /kube-ovn/nat-gateway.sh eip-add 192.168.100.11/24")


def test_the_script_that_a_run_starts_is_the_runs_act():
    """Given a handler's start and the script in its run, then the script is an act on the handler's resource."""
    *_, act = operations(f"{said(0, *EIP)}\n{said(500_000, *ACT)}")
    assert (act.testimony, act.key) == (ACT_LOGGED, Key("eip", "", "eip-1"))
    assert act.command == ("bash", "/kube-ovn/nat-gateway.sh", "eip-add", "192.168.100.11/24")


@pytest.mark.parametrize(
    ("before", "key"),
    [
        ([], None),  # the start is not in this file
        ([(0, "vpc_nat_gw_nat.go", "handle add iptables fip fip-1")], None),  # a run of another kind
        ([(-LASTS - 1_000, *EIP)], None),  # too long ago
        ([(0, *EIP), (1, "vpc_nat_gw_eip.go", "error syncing 'eip-1': no, requeuing")], None),  # it ended
        ([(0, *EIP), (1_000, EIP[0], "handle update iptables eip eip-2")], None),  # nobody can tell which
        ([(-2 * APART, *EIP), (1_000, EIP[0], "handle update iptables eip eip-2")], "eip-2"),
        ([(0, *EIP), (1_000, EIP[0], "handle add iptables eip eip-2")], "eip-2"),  # the queue has one worker
        ([(0, *EIP), (1_000, EIP[0], "handle update iptables eip eip-1")], "eip-1"),  # either way it is the same
    ],
)
def test_an_act_is_given_to_a_run_only_where_that_is_certain(before, key):
    text = "\n".join([*(said(*one) for one in before), said(500_000, *ACT)])
    acts = [one for one in operations(text) if one.command]
    assert [one.key.name for one in acts] == ([key] if key else [])


def test_a_requeued_rule_is_of_the_kind_whose_run_is_open():
    requeue = said(10, "vpc_nat_gw_nat.go", "error syncing 'rule-1': no, requeuing")
    for kind, words in (("snat", "handle add iptables snat rule rule-1"), ("fip", "handle add iptables fip rule-1")):
        start, end = operations(f"{said(0, 'vpc_nat_gw_nat.go', words)}\n{requeue}")
        assert (start.testimony, end.testimony) == (RUN_STARTED, RUN_FAILED)
        assert start.key == end.key == Key(kind, "", "rule-1")
    assert not operations(requeue)


def test_runs_are_bounded():
    runs = Runs()
    for number in range(5_000):
        runs.start(Key("pod", "shop", f"web-{number}"), "handle delete pod", number)
    assert runs.at(["pod"], 5_000) is None
    assert sum(len(some) for some in runs._open.values()) <= 1_000


# ---- through the engine


def test_a_log_becomes_testimony_in_the_history_of_what_it_names(tmp_path):
    """Given two overlapping logs, one with a prefix, when both are ingested, then every line is testimony once."""
    log = [
        said(0, "vpc.go", "handle add/update vpc shop"),
        said(10, "vpc.go", "something that no table knows"),
        said(20, "vpc.go", f"error syncing 'shop': {'cause ' * 200}, requeuing"),
        said(30, "pod.go", "delete logical switch port web-0.shop"),
        said(40, *EIP),
        said(50, *ACT),
    ]
    one, two = tmp_path / "a.log", tmp_path / "b.log"
    one.write_text("\n".join(log) + "\n")
    two.write_text("".join(f"[pod/kube-ovn-controller-1/c] {line}\n" for line in log))
    for path in (one, two):
        os.utime(path, (WRITTEN / 1e6, WRITTEN / 1e6))
    answers = []
    for paths in ([one, two], [two, one]):
        journal, ledger = InMemoryJournal(), Ledger(InMemoryDCBRecorder())
        first, second = (ingest(str(path), journal) for path in paths)
        assert (first.recognised, first.unknown, first.unrecognised, first.duplicates) == (5, 1, 0, 0)
        assert (second.recognised, second.unknown, second.unrecognised, second.duplicates) == (0, 1, 0, 5)
        assert first.format == second.format == "klog"
        judged = judge(journal, ledger)
        events = [placed.event for placed in ledger.events()]
        assert [(event.type, str(event.key), event.operation) for event in events] == [
            ("RunStarted", "vpc/shop", "handle add/update vpc"),
            ("RunFailed", "vpc/shop", "error syncing"),
            ("ActLogged", "pod/shop/web-0", "delete logical switch port"),
            ("RunStarted", "eip/eip-1", "handle add iptables eip"),
            ("ActLogged", "eip/eip-1", "bash /kube-ovn/nat-gateway.sh eip-add"),
        ]
        assert len(events[1].reason) == 500
        assert all(event.actor == "kube-ovn-controller" and event.agent == "klog" for event in events)
        assert not conclude(judged, events, journal)
        answers.append(judged.digest)
    assert answers[0] == answers[1]


# ---- a corpus, and noise


@pytest.mark.parametrize("prefix", [*PREFIXES, "Docker"])
def test_a_long_log_is_understood_behind_every_prefix(prefix):
    """Given 1,200 lines in the wordings of every release, when they are read behind a prefix, then as without."""
    log = [line for line in lines(1_200, seed=5, wanted=3) if "goroutine" not in line]
    template = PREFIXES.get(prefix)
    carried = [docker(line) if template is None else template.format(line) for line in log]
    plain, other = read("\n".join(log)), read("\n".join(carried))
    assert records(plain) == records(other) == len(log)
    assert [one.what.identity for one in plain if isinstance(one.what, Recognised)] == [
        one.what.identity for one in other if isinstance(one.what, Recognised)
    ]
    share = sum(isinstance(one.what, Recognised) for one in other) / len(log)
    print(f"{prefix}: {share:.1%} recognised")
    assert share > 0.3


def test_of_a_corpus_in_every_wording_all_of_interest_is_recognised():
    """Given 24,000 lines of which every second is of a row that makes events, then those are found, and all are counted."""
    found = read("\n".join(lines(24_000, seed=11, wanted=2)), About(year=2026))
    total = records(found)
    share = sum(isinstance(one.what, Recognised) for one in found) / total
    unknown = sum(one.what.records for one in found if isinstance(one.what, Unknown)) / total
    print(f"{total:,} records: {share:.1%} recognised, {unknown:.1%} unknown")
    assert total == 24_000 - 24_000 // 200
    assert 0.45 < share <= 0.51
    assert unknown < 0.25
    assert not [one for one in found if isinstance(one.what, str)]
    times = [one.what.time for one in found if isinstance(one.what, Recognised | Ignored | Unknown)]
    assert min(times)[:19] == f"{BEGINNING:%Y-%m-%dT%H:%M:%S}"


def check(data: bytes, about: About) -> None:
    """What must hold of any bytes: every header is one record, and what is recognised can be read again."""
    found = read(data, about)
    for one in found:
        if isinstance(one.what, Recognised):
            assert klog.heads(one.what.identity, one.payload) == one.what.heads
            for head in one.what.heads:
                klog.operation(one.payload, OrderKey(0, 1, head.time, one.what.identity, head.part), TESTIFIED)
            assert len(one.payload) <= klog.RECORD_BYTES + 100
    assert records(found) <= data.count(b"\n") + 2


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_read_without_a_crash(data):
    check(data, About(modified=WRITTEN))


CORPUS = "\n".join(
    [*lines(60, seed=3, wanted=2), *(PREFIXES[name].format(LINE) for name in PREFIXES), docker(LINE)]
).encode()


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_logs_are_read_without_a_crash(data):
    """Given a log in which bytes were changed, taken out and put in, then it is read to its end."""
    log = bytearray(CORPUS)
    for _ in range(data.draw(st.integers(1, 12))):
        at = data.draw(st.integers(0, len(log) - 1))
        kind = data.draw(st.sampled_from(("change", "cut", "insert")))
        if kind == "change":
            log[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del log[at : at + data.draw(st.integers(1, 40))]
        else:
            log[at:at] = data.draw(
                st.binary(max_size=12) | st.sampled_from([b"\n", b'"', b"\\", b"] ", b"0229 ", b"**"])
            )
    check(bytes(log), data.draw(st.sampled_from([About(modified=WRITTEN), About(year=2026), About()])))


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_a_prefix_is_taken_apart_or_refused(prefix):
    shape = log_prefixes.shape_of(prefix)
    if shape is not None:
        assert log_prefixes.compiled(shape, b"").match(prefix)


@pytest.mark.parametrize(
    "piece", ["a" * 400, "a-1-" * 100, "a:" * 200, "x 1 " * 100, "Line 1: " * 60, "[pod/a/b] " * 50, "2026-" * 90]
)
def test_no_prefix_takes_long(piece):
    """Given what the layers might be tried on in very many ways, then a long log of it is still read at once."""
    text = "\n".join([f"{piece}{LINE}"] * 50)
    before = datetime.now(UTC)
    read(text)
    assert datetime.now(UTC) - before < timedelta(seconds=5)


ENDLESS = [
    ("vpc.go", "add policy route for router: v, match ", ", action a, nexthop b"),
    ("gc.go", "start to gc ", " "),
    ("gc.go", "gc ip ", " x"),
    ("controller.go", 'error syncing add "', '" "'),
    ("controller.go", '"Unhandled Error" err="', "\\"),
    ("controller.go", '"Unhandled Error" err=<', "\n\tx"),
    ("pod.go", "error syncing '", "'': "),
    ("ipset.go", "ipset restore looks like: ", "\n \n"),
    ("ipset.go", "running ipset command: path=`", "` args=[a create "),
]


@pytest.mark.parametrize(("file", "words", "piece"), ENDLESS, ids=lambda one: str(one)[:20])
def test_no_message_takes_long(file, words, piece):
    """Given messages that nearly fit a row in very many ways, then they are read in the time that their length takes."""
    before = time.process_time()
    read(f"{said(0, file, words)}{piece * (900_000 // len(piece))}!")
    assert time.process_time() - before < 5


def test_the_reader_keeps_nothing_of_a_long_dull_log():
    """Given two million bytes of places and words that never come again, then no more is remembered than is allowed."""
    text = "\n".join(f"I0704 06:57:37.123456 7 f{n}.go:{n % 1000}] word{n} and more" for n in range(30_000))
    assert records(read(text)) == 30_000
    assert len(klog._table()._made) < 100


def test_every_layer_stands_in_one_of_the_prefixes_above():
    shapes = [log_prefixes.shape_of(text.partition("{")[0].removesuffix("**").encode()) for text in PREFIXES.values()]
    assert {name for shape in shapes for name in shape or ()} == set(log_prefixes.LAYERS) - {log_prefixes.PART}


# ---- what kube-router restored, by its own log


def restores_logged(*, locks: bool) -> bytes:
    """The restores of a real incident as kube-router -v=3 would have logged them."""
    folder = DATA / "s3-buggy" / "ipset"
    lines = []
    for second, (name, file) in enumerate(
        (
            ("004-ipvs-controller", "network_services_controller.go"),
            ("006-netpol-controller", "policy.go"),
            ("009-ipvs-controller", "network_services_controller.go"),
            ("011-netpol-controller", "policy.go"),
        )
    ):
        text = (folder / f"{name}-restore-input.restore").read_text()
        header = f"I1121 01:34:{second:02}.00000{{}}       1"
        if locks:
            lines.append(f"{header.format(1)} {file}:100] Attained ipset mutex lock, continuing...")
        lines.append(f"{header.format(2)} ipset.go:500] ipset (ipv6? false) restore looks like:\n{text.rstrip()}")
        if locks:
            lines.append(f"{header.format(3)} {file}:101] Returned ipset mutex lock")
    return "\n".join(lines).encode() + b"\n"


def test_a_restore_that_the_log_quotes_is_one_of_the_controller_that_held_the_lock(tmp_path):
    path = tmp_path / "kube-router.log"
    path.write_bytes(restores_logged(locks=True))
    journal = InMemoryJournal()
    tally = ingest(str(path), journal, about=About(year=2026, node="node1"))
    assert (tally.format, tally.recognised, tally.unrecognised) == ("klog", 4, 0)
    assert {entry.identity.split("/")[2] for entry in journal.read()} == {
        "kube-router network services controller",
        "kube-router network policy controller",
    }
    replayed = replay(journal=journal)
    assert {(str(finding.key), finding.name, finding.status) for finding in replayed.findings} == {
        ("ipset/node1/kube-router-svip", "ipset-lost-member", "open"),
        ("ipset/node1/kube-router-svip-prt", "ipset-lost-member", "open"),
    }
    assert all("network policy controller at 01:34:03.000" in finding.explanation for finding in replayed.findings)


def test_without_the_lines_of_the_lock_nobody_is_named_for_a_restore(tmp_path):
    path = tmp_path / "kube-router.log"
    path.write_bytes(restores_logged(locks=False))
    journal = InMemoryJournal()
    ingest(str(path), journal, about=About(year=2026))
    assert {entry.identity.split("/")[2] for entry in journal.read()} == {"kube-router"}
    assert replay(journal=journal).findings == []
