"""The table of klog's wordings: every row is understood, as the kind, the key and the event that it is said to be."""

import random
import re

import pytest

from adapters.sources import klog
from adapters.sources.dialect import About, Found, Ignored, Recognised
from adapters.sources.klog_patterns import (
    NAT_KINDS,
    PATTERNS,
    REQUEUED,
    Pattern,
    ip_of,
    pod_of,
    queue_kind,
    rows,
    statements,
)
from benchmarks.klog import message
from domain.events import (
    ACT_LOGGED,
    CHANGE_NOTICED,
    ERROR_LOGGED,
    REFUSAL_LOGGED,
    RUN_ENDED,
    RUN_FAILED,
    RUN_STARTED,
    TESTIMONIES,
)
from domain.operations import TESTIFIED, Operation, OrderKey
from domain.resources import BY_NAME, Key

START = {
    "subnet": ("subnet.go", "handle add or update subnet net-9"),
    "pod": ("pod.go", "handle delete pod shop/web-9"),
    "ip": ("ip.go", "handle deleting ip web-9.shop"),
    "namespace": ("namespace.go", "handle add/update namespace tenant-9"),
    "eip": ("vpc_nat_gw_eip.go", "handle add iptables eip eip-9"),
    "fip": ("vpc_nat_gw_nat.go", "handle add iptables fip fip-9"),
    "snat": ("vpc_nat_gw_nat.go", "handle add iptables snat rule snat-9"),
    "dnat": ("vpc_nat_gw_nat.go", "handle add iptables dnat rule dnat-9"),
    "nat-gateway": ("vpc_nat_gateway.go", "handle init vpc nat gateway gw-9"),
    "ofip": ("ovn_fip.go", "handle add fip ofip-9"),
    "osnat": ("ovn_snat.go", "handle add ovn snat osnat-9"),
}
"""A line that opens a run, for the rows that speak of one that is open."""

OPENED = {
    "subnet": Key("subnet", "", "net-9"),
    "pod": Key("pod", "shop", "web-9"),
    "ip": Key("ip", "", "web-9.shop"),
    "namespace": Key("namespace", "", "tenant-9"),
    "eip": Key("eip", "", "eip-9"),
    "fip": Key("fip", "", "fip-9"),
    "snat": Key("snat", "", "snat-9"),
    "dnat": Key("dnat", "", "dnat-9"),
    "nat-gateway": Key("nat-gateway", "", "gw-9"),
    "ofip": Key("ofip", "", "ofip-9"),
    "osnat": Key("osnat", "", "osnat-9"),
}


def found_in(*said: tuple[str, str], line: int = 100) -> list[Found]:
    """What is read of a log of these (file, message), a millisecond apart."""
    text = [f"I0704 06:57:37.{n:03}000       7 {file}:{line}] {words}".encode() for n, (file, words) in enumerate(said)]
    lines = [(n, one, "") for n, one in enumerate(b"\n".join(text).split(b"\n"), 1)]
    return list(klog.read(iter(lines), About(year=2026)))


def operations(found: list[Found]) -> list[Operation]:
    """The operations of what was recognised, made from no more than what the journal keeps."""
    made = []
    for one in found:
        if isinstance(one.what, Recognised):
            assert klog.heads(one.what.identity, one.payload) == one.what.heads
            for head in one.what.heads:
                assert (head.outcome, head.revision, head.uid, head.clocked) == (TESTIFIED, 0, "", True)
                order = OrderKey(0, 1, head.time, one.what.identity, head.part)
                made.append(klog.operation(one.payload, order, TESTIFIED))
                assert made[-1].key == head.key
    return made


def sample(pattern: Pattern) -> str:
    """A message of the wording, always the same, in names that tell the fields apart."""
    words = pattern.wording
    for field, value in {"name": "shop-1", "namespace": "tenant", "short": "web-9", "port": "web-1.tenant"}.items():
        words = words.replace("{" + field + "}", value)
    words = words.replace("{holder}", "tenant/web-1").replace("{set}", "kube-router-svip")
    return message(words, random.Random(4))


def expected(pattern: Pattern, kind: str) -> Key:
    """The key of `sample`, said a second time."""
    if pattern.run:
        return OPENED[kind]
    if "{holder}" in pattern.wording:
        return Key("ip", "", "web-1.tenant")
    if "{port}" in pattern.wording:
        return Key("pod", "tenant", "web-1")
    if "{set}" in pattern.wording:
        return Key("ipset", "", "kube-router-svip")
    return Key(kind, "tenant" if "{namespace}" in pattern.wording else "", "shop-1")


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda one: f"{one.component}-{one.row}-{one.statement[:50]}")
def test_every_wording_is_understood_as_its_row_says(pattern):
    """Given a line of a wording, when it is read, then it is testimony on the resource of its row, or ignored by rule."""
    for kind in pattern.run or (pattern.kind,):
        log = [START[kind]] if pattern.run else []
        line = min(pattern.lines, default=100)
        for file in pattern.files:
            found = found_in(*log, (file, sample(pattern)), line=line)
            if pattern.kind not in BY_NAME or not pattern.is_about_something:
                assert [type(one.what) for one in found] == [Ignored], found
                continue
            if "{sets}" in pattern.wording:
                (record,) = found
                assert isinstance(record.what, Recognised)
                assert record.what.identity.split("/")[2:4] == ["kube-router", "restore-input"]
                continue
            *_, said = operations(found)
            assert len(operations(found)) == len(log) + 1
            assert (said.testimony, said.actor, said.agent) == (pattern.event, pattern.component, "klog")
            assert said.key == expected(pattern, kind)
            assert said.key.kind in (pattern.kind, kind)
            assert said.verb == pattern.statement
            assert said.reason == sample(pattern).rstrip()[:500]


LITERAL = [
    ("vpc.go:123", "handle add/update vpc vpc-shop", RUN_STARTED, "vpc/vpc-shop"),
    ("vpc.go:99", "failed to delete vpc v-1, please delete subnet s-1 first", REFUSAL_LOGGED, "vpc/v-1"),
    ("vpc.go:99", "vpc v-1 add static route: &{Policy:policyDst CIDR:0.0.0.0/0}", ACT_LOGGED, "vpc/v-1"),
    ("vpc.go:99", "create peer router port for vpc v-1, timed out", ERROR_LOGGED, "vpc/v-1"),
    ("gc.go:214", "gc logical router v-1", ACT_LOGGED, "vpc/v-1"),
    ("subnet.go:936", "delete u2o interconnection policy route for subnet net1", RUN_STARTED, "subnet/net1"),
    ("subnet.go:9", "delete policy route for router: v-1, priority: 310, match ip4.dst == 10.0.0.0/8", ACT_LOGGED, "vpc/v-1"),
    ("subnet.go:874", "inconsistency detected in status of subnet net1 : using 3", ERROR_LOGGED, "subnet/net1"),
    ("subnet.go:9", "subnet net1 has 4 v4 ip in use, while the v4 using ip range is empty", ERROR_LOGGED, "subnet/net1"),
    ("ipam.go:61", "allocate v4 10.0.0.3, v6 , mac 00:00 for shop/web-0 from subnet net1", ACT_LOGGED, "ip/web-0.shop"),
    ("ipam.go:51", "allocate v4  v6 fd00::3 mac 00:00 for shop/web-0 from subnet net1", ACT_LOGGED, "ip/web-0.shop"),
    ("ipam.go:85", "allocate v4 10.0.0.3 v6 fd00::3 mac 00:00:00:1 for shop/web-0", ACT_LOGGED, "ip/web-0.shop"),
    ("ipam.go:61", "allocate v4 10.0.0.3, v6 , mac 00:00 for node-n1 from subnet join", ACT_LOGGED, "ip/node-n1"),
    ("subnet.go:513", "release v4 10.0.0.3 mac 00 from subnet net1 for shop/web-0, ignore ip", ACT_LOGGED, "ip/web-0.shop"),
    ("subnet.go:460", "release v4 10.0.0.3 mac  for shop/web-0, add ip to released list", ACT_LOGGED, "ip/web-0.shop"),
    ("subnet.go:300", "ip 10.0.0.3 has been allocated to [shop/web-0]", ERROR_LOGGED, "ip/web-0.shop"),
    ("ip.go:2", "ip cr web-0.shop release ipam pod key shop/web-0 from subnet net1", ACT_LOGGED, "ip/web-0.shop"),
    ("ip.go:2", "ip web-0.shop macAddress can not change", REFUSAL_LOGGED, "ip/web-0.shop"),
    ("pod.go:2", "enqueue delete pod shop/web-0 after 30s", CHANGE_NOTICED, "pod/shop/web-0"),
    ("pod.go:2", "enqueue delete pod shop/web-0", CHANGE_NOTICED, "pod/shop/web-0"),
    ("pod.go:2", "take 31 ms to handle add or update pod shop/web-0", RUN_ENDED, "pod/shop/web-0"),
    ("pod.go:2", "handle deletion of sts pod shop/web-0", RUN_STARTED, "pod/shop/web-0"),
    ("pod.go:2", "delete logical switch port web-0.shop", ACT_LOGGED, "pod/shop/web-0"),
    ("pod.go:2", "delete logical switch port web.v2.shop.net1.infra.ovn", ACT_LOGGED, "pod/shop/web.v2"),
    ("pod.go:2", "deletting pod a/b default subnet s already not exist, gc will clean its ip cr", ERROR_LOGGED, "pod/a/b"),
    ("gc.go:498", "gc logical switch port web-0.shop with uuid 5b2c", ACT_LOGGED, "pod/shop/web-0"),
    ("gc.go:329", "subnet net1 already not exist, gc ip web-0.shop", ACT_LOGGED, "ip/web-0.shop"),
    ("namespace.go:150", 'vpc "v-1" is not found. Ignoring subnet "net1": not found', ERROR_LOGGED, "subnet/net1"),
    ("vpc_nat_gw_eip.go:218", 'clean eip "eip-1" in pod', ACT_LOGGED, "eip/eip-1"),
    ("vpc_nat_gw_nat.go:271", "handle update iptables fip rule-1", RUN_STARTED, "fip/rule-1"),
    ("vpc_nat_gw_nat.go:454", "handle update iptables fip rule-1", RUN_STARTED, "dnat/rule-1"),
    ("vpc_nat_gw_nat.go:659", "handle update iptables dnat rule-1", RUN_STARTED, "dnat/rule-1"),
    ("vpc_nat_gw_nat.go:12", "handle add fip rule-1", ACT_LOGGED, "fip/rule-1"),
    ("ovn_fip.go:12", "handle add fip rule-1", RUN_STARTED, "ofip/rule-1"),
    ("ovn_snat.go:12", "wait ovn snat s-1 to be ready only in the handle add process", REFUSAL_LOGGED, "osnat/s-1"),
    ("ovn_fip.go:12", "enqueue reset old ovn eip e-1", CHANGE_NOTICED, "oeip/e-1"),
    ("vpc_nat_gateway.go:5", "delete vpc nat gw vpc-nat-gw-gw1", ACT_LOGGED, "nat-gateway/gw1"),
    ("handler.go:50", "add port request: {kube-ovn web-0 shop 1f2e /run/netns/x eth0 ovn}", RUN_STARTED, "pod/shop/web-0"),
    ("handler.go:50", "wait address for pod shop/web-0 provider ovn", ACT_LOGGED, "pod/shop/web-0"),
    ("pod.go:40", "Received pod: shop/web-0 delete event", CHANGE_NOTICED, "pod/shop/web-0"),
    ("namespace.go:40", "Received update for namespace: shop", CHANGE_NOTICED, "namespace/shop"),
    # A statement that moved to another file, as they do from release to release, is still what it was.
    ("vpc_status.go:7", "handle status update for vpc v-1", RUN_STARTED, "vpc/v-1"),
    ("controller/vpc.go:7", "handle delete vpc v-1", RUN_STARTED, "vpc/v-1"),
]  # fmt: skip


@pytest.mark.parametrize(("place", "words", "event", "key"), LITERAL, ids=lambda one: str(one)[:40])
def test_lines_as_they_stand_in_logs(place, words, event, key):
    """Lines written out in full, so that the table does not judge itself."""
    (said,) = operations(
        list(klog.read(iter([(1, f"I0704 06:57:37.000001 7 {place}] {words}".encode(), "")]), About(year=2026)))
    )
    assert (said.testimony, str(said.key)) == (event, key)


CAUSE = 'Operation cannot be fulfilled on vpcs.kubeovn.io "v-1": the object has been modified'
REQUEUES = [
    ("vpc.go", f"error syncing 'v-1': {CAUSE}, requeuing", "vpc/v-1", "error syncing", CAUSE),
    ("pod.go", "error syncing 'shop/web-0': no address, requeuing", "pod/shop/web-0", "error syncing", "no address"),
    (
        "vpc_nat_gateway.go",
        "process: updateVpcEip. err: error syncing 'gw-1': exit 1, requeuing",
        "nat-gateway/gw-1",
        "updateVpcEip",
        "exit 1",
    ),
    (
        "vpc_nat_gateway.go",
        "process: addIptablesFip. err: error syncing 'fip-1': exit 1, requeuing",
        "fip/fip-1",
        "addIptablesFip",
        "exit 1",
    ),
    ("controller.go", f'error syncing add/update vpc "v-1": {CAUSE}, requeuing', "vpc/v-1", "add/update vpc", CAUSE),
    (
        "controller.go",
        '"Unhandled Error" err="error syncing update status of vpc \\"v-1\\": said \\"no\\"\\n\\tand more, requeuing" '
        'logger="UnhandledError"',
        "vpc/v-1",
        "update status of vpc",
        'said "no"\n\tand more',
    ),
    (
        "controller.go",
        '"Unhandled Error" err=<\n\terror syncing delete pod "shop/web-0": first\n\tsecond, requeuing\n > '
        'logger="UnhandledError"',
        "pod/shop/web-0",
        "delete pod",
        "first\nsecond",
    ),
]


@pytest.mark.parametrize(("file", "words", "key", "queue", "cause"), REQUEUES, ids=lambda one: str(one)[:40])
def test_both_requeue_forms_say_queue_key_and_cause(file, words, key, queue, cause):
    (said,) = operations(found_in((file, words)))
    assert (said.testimony, str(said.key), said.verb, said.reason) == (RUN_FAILED, key, queue, cause)


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("add/update vpc", "vpc"), ("delete vpc", "vpc"), ("update status of vpc", "vpc"), ("add/update subnet", "subnet"),
        ("delete subnet", "subnet"), ("update status of subnet", "subnet"), ("add namespace", "namespace"),
        ("delete pod", "pod"), ("add/update pod", "pod"), ("add ip", "ip"), ("update ip", "ip"), ("delete ip", "ip"),
        ("add/update vpc nat gateway", "nat-gateway"), ("init vpc nat gateway", "nat-gateway"),
        ("update fip for vpc nat gateway", "nat-gateway"), ("update subnet route for vpc nat gateway", "nat-gateway"),
        ("add iptables eip", "eip"), ("reset iptables eip", "eip"), ("update iptables fip", "fip"),
        ("delete iptables dnat rule", "dnat"), ("add iptables snat rule", "snat"), ("reset ovn eip", "oeip"),
        ("update ovn fip", "ofip"), ("add ovn snat rule", "osnat"), ("delete ovn dnat", "odnat"), ("add vip", "vip"),
        ("addOrUpdateVpcNatGateway", "nat-gateway"), ("updateVpcFloatingIp", "nat-gateway"),
        ("updateVpcSubnet", "nat-gateway"), ("updateVpcDnat", "nat-gateway"),
        ("addIptablesSnatRule", "snat"), ("delIptablesDnatRule", "dnat"),
        ("resetIptablesEip", "eip"), ("qos policy", ""), ("add switch lb rule", ""),
    ],
)  # fmt: skip
def test_a_queues_name_tells_the_kind_of_its_keys(words, kind):
    assert queue_kind(words) == kind


def test_the_table_has_every_row_of_both_lists():
    of = {
        component: {one.row for one in PATTERNS if one.component == component}
        for component in {o.component for o in PATTERNS}
    }
    # Row 114 is the causes inside other lines.
    assert of["kube-ovn-controller"] | of["kube-ovn-cni"] == set(range(1, 123)) - {114}
    assert of["kube-router"] == set(range(1, 37))


def test_every_row_says_what_it_is():
    for one in PATTERNS:
        assert (one.event in TESTIMONIES) == bool(one.kind), one
        assert set(one.run) <= set(START), one
        assert one.statement and "{" not in one.statement, one


def test_the_wordings_are_those_of_the_sources():
    """The list of statements was made from the sources by machine: what is not in it has to be known here by name."""

    def printed(text: str) -> str:
        return re.sub(r"%[-+# 0]*[\d.*]*[a-zA-Z]", "%", text.replace("%q", '"%"')).strip()

    known = {printed(text) for _, text in statements()}
    wanted = {
        re.sub(r"\{\w+\}", "%", re.sub(r"\{namespace\}/\{name\}|\{place\}/\{name\}", "%", one.wording)).strip()
        for one in PATTERNS
    } | {re.sub(r"\{\w+\}", "%", one.wording).strip() for one in PATTERNS}
    share = len(wanted & known) / len({one.wording for one in PATTERNS})
    print(f"{share:.0%} of the wordings are statements of a release that was read")
    assert share > 0.7


def test_the_rows_for_the_documentation_are_complete():
    table = rows()
    assert len(table) == len(PATTERNS) + len(REQUEUED)
    assert all(row.wording and row.event and row.releases for row in table)


def test_names_are_made_as_the_sources_make_them():
    assert ip_of("shop/web-0") == "web-0.shop"
    assert ip_of("node-n1") == "node-n1"
    assert pod_of("web-0.shop") == Key("pod", "shop", "web-0")
    assert pod_of("web-0.shop.net1.infra.ovn") == Key("pod", "shop", "web-0")
    assert pod_of("node-n1") is None


def test_a_line_of_the_ipset_library_is_about_the_set_that_it_names():
    library = 'time="2026-07-04T06:57:37Z" level=info msg="Queueing IP set for creation" family=inet setID=subnets-nat'
    (said,) = operations(list(klog.read(iter([(1, library.encode(), "")]), About())))
    assert (str(said.key), said.testimony, said.actor) == ("ipset/ovn40subnets-nat", CHANGE_NOTICED, "kube-ovn-cni")
    felix = "2026-07-04 06:57:37.1 [WARNING][12] felix/ipsets.go 9: It broke setName=ovn60services"
    (said,) = operations(list(klog.read(iter([(1, felix.encode(), "")]), About())))
    assert (str(said.key), said.testimony) == ("ipset/ovn60services", ERROR_LOGGED)


def test_nat_kinds_cover_what_runs_in_a_gateways_pod():
    assert set(NAT_KINDS) <= set(BY_NAME)
