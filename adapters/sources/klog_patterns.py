"""What kube-ovn and kube-router write into their logs, as data: one row a wording. Add a row to teach the reader a line.

A wording is the statement's text with a named field for each verb of its format. `{name}` and `{namespace}` are the
resource's; a `{holder}` is who holds an address (`shop/web-0`, from which the IP object's name follows), a `{port}` a
logical switch port (`web-0.shop`), a `{set}` an ipset. All other fields only let the text vary. A row without any of
these names no resource: with `run` it speaks of the run that is open on one of those kinds (`klog_runs.py`), without it
is known and ignored. The numbers of the rows are those of the two lists in docs/sources.md; releases are kube-ovn's or
kube-router's own, and say where a wording is known from, not where it is accepted.

`klog_statements.tsv` beside this file lists the statements of both projects, file and format, from kube-ovn 1.11 to 1.16 and
kube-router 1.6 to 2.7: what is there and not here is known, and says nothing that is used. `klog.py` is next: it reads.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from domain.events import (
    ACT_LOGGED,
    CHANGE_NOTICED,
    ERROR_LOGGED,
    REFUSAL_LOGGED,
    RUN_ENDED,
    RUN_FAILED,
    RUN_STARTED,
)
from domain.resources import Key

CONTROLLER, CNI, ROUTER = "kube-ovn-controller", "kube-ovn-cni", "kube-router"

LOCKED = "Attained ipset mutex lock"
"""What a controller of kube-router says when it alone may write the node's ipsets (kube-router#1088)."""
NAT_RULES = ("fip", "dnat", "snat")
NAT_KINDS = ("eip", *NAT_RULES, "nat-gateway")
NATS = ("eip", "fip", "snat", "dnat")


class Pattern(NamedTuple):
    """One wording of one row.

    `files` are the source files that have it; `event` is the testimony that it is; `kind` the kind of resource it names.
    `lines` are the only lines of `files` that it stands on, where two statements have one text and the lines tell.
    """

    component: str
    row: int
    files: tuple[str, ...]
    wording: str
    event: str = ""
    kind: str = ""
    run: tuple[str, ...] = ()
    releases: str = ""
    lines: frozenset[int] = frozenset()

    @property
    def statement(self) -> str:
        """The wording in words: what a person reads of an event made from it."""
        return _in_words(self.wording)

    @property
    def prefix(self) -> bytes:
        """The text in front of the first field: what a line is looked at for first."""
        return _beginning(self.wording)

    @property
    def is_about_something(self) -> bool:
        """Whether it names a resource, or the run that is open tells which."""
        return bool(self.run) or bool(re.search(r"\{(name|holder|port|set|sets|key)\}", self.wording))

    @property
    def takes_the_lock(self) -> bool:
        """Whether it says who writes the node's ipsets next: it names no resource, and yet is looked at."""
        return self.wording.startswith(LOCKED)


@cache
def _beginning(wording: str) -> bytes:
    return wording.partition("{")[0].encode()


@cache
def _in_words(wording: str) -> str:
    words = re.sub(r"\{\w+\}(/\{\w+\})?", "…", wording).replace("'…'", "…").replace('"…"', "…")
    return words.strip("…:, []{&`") or wording


_FIELD = {
    "name": r"[^\s/,'\"]+",
    "short": r"[^\s/,'\"]+",
    "namespace": r"[^\s/,'\"]+",
    "holder": r"[^\s\[\],]+",
    "port": r"[^\s,'\"]+",
    "set": r"[^\s,'\"]+",
    "key": r"[^\s'\"]+",
    "number": r"-?[\d.]+",
    "cause": r".*",
    "sets": r".*",
}
_ANY = r".*?"


@cache
def expression(wording: str) -> re.Pattern[bytes]:
    """What matches a whole message of that wording, in a time that grows with its length and no faster.

    A field ends where the text behind it comes first, and that is not tried again further on (an atomic group).
    """
    begins, *rest = re.split(r"\{(\w+)\}", wording)
    pattern = re.escape(begins)
    seen: set[str] = set()
    for field, text in zip(rest[::2], rest[1::2], strict=True):
        value = f"(?:{_FIELD.get(field, _ANY)})" if field in seen else f"(?P<{field}>{_FIELD.get(field, _ANY)})"
        pattern += f"(?>{value}{re.escape(text)})" if text else value
        seen.add(field)
    return re.compile(pattern.encode() + rb"\Z", re.DOTALL)


# ---- the two lists


class _List:
    """Rows of one component, with what they have in common said once."""

    def __init__(self, component: str) -> None:
        self.component = component
        self.rows: list[Pattern] = []

    def add(
        self,
        row: int,
        files: str,
        event: str,
        kind: str,
        *wordings: str,
        run: str | tuple[str, ...] = (),
        releases: str = "",
        lines: Iterable[int] = (),
    ) -> None:
        runs = (run,) if isinstance(run, str) else run
        for wording in wordings:
            at = frozenset(lines)
            self.rows.append(
                Pattern(self.component, row, tuple(files.split()), wording, event, kind, runs, releases, at)
            )


def _kube_ovn() -> list[Pattern]:
    table = _List(CONTROLLER)
    add = table.add

    # VPC
    add(1, "vpc.go", CHANGE_NOTICED, "vpc", "enqueue add vpc {name}")
    add(2, "vpc.go", CHANGE_NOTICED, "vpc", "enqueue update vpc {name}")
    add(3, "vpc.go", CHANGE_NOTICED, "vpc", "enqueue delete vpc {name}")
    add(4, "vpc.go", RUN_STARTED, "vpc", "handle add/update vpc {name}", releases="1.12-")
    add(5, "vpc.go", RUN_STARTED, "vpc", "handle status update for vpc {name}", releases="1.12-")
    add(6, "vpc.go", CHANGE_NOTICED, "vpc", "vpc {name} has no subnets, add to queue", releases="1.13.4-")
    add(7, "vpc.go", RUN_STARTED, "vpc", "handle delete vpc {name}", releases="1.12-")
    refused = "failed to delete vpc {name}, please delete subnet {subnet} first"
    add(8, "vpc.go", REFUSAL_LOGGED, "vpc", refused)
    add(8, "vpc.go", REFUSAL_LOGGED, "vpc", refused.replace(", please", " please"), releases="1.13.2")
    # The guards of validateVpcBySubnet name the VPC, and not the subnet whose run it is.
    add(9, "subnet.go", ERROR_LOGGED, "subnet", "failed to get subnet's vpc '{vpc}', {cause}", run="subnet")
    add(10, "subnet.go", REFUSAL_LOGGED, "subnet", "the vpc '{vpc}' not standby yet", run="subnet")
    out_of_range = "namespace '{tenant}' is out of range to custom vpc '{vpc}'"
    add(11, "subnet.go", REFUSAL_LOGGED, "subnet", out_of_range, run="subnet")
    add(12, "vpc.go", ACT_LOGGED, "vpc", "vpc {name} add static route: {cause}", "vpc {name} del static route: {cause}")
    policy = "add policy route for router: {name}, match {match}, action {action}, nexthop {hop}, "
    add(13, "vpc.go node.go subnet.go", ACT_LOGGED, "vpc", policy + "externalID {cause}")
    add(13, "node.go subnet.go", ACT_LOGGED, "vpc", policy + "extrenalID {cause}", releases="-1.11")
    unset = "delete policy route for router: {name}, priority: {number}, match"
    add(14, "vpc.go subnet.go init.go", ACT_LOGGED, "vpc", unset + " {cause}")
    add(14, "subnet.go", ACT_LOGGED, "vpc", unset + ": {cause}", releases="1.13-")
    peering = "create peer router port for vpc {name}, {cause}"
    add(15, "vpc.go", ERROR_LOGGED, "vpc", peering, "failed to " + peering)

    # Subnet
    for verb in ("add", "update", "delete"):
        add(16, "subnet.go", CHANGE_NOTICED, "subnet", f"enqueue {verb} subnet {{name}}")
    add(17, "subnet.go", RUN_STARTED, "subnet", "handle add or update subnet {name}")
    add(18, "subnet.go", ACT_LOGGED, "subnet", "format subnet {name}, changed {changed}")
    add(19, "subnet.go", ACT_LOGGED, "subnet", "non ovn subnet {name} is ready")
    add(20, "subnet.go", RUN_STARTED, "subnet", "delete u2o interconnection policy route for subnet {name}")
    for gateway in ("centralized", "distributed"):
        add(21, "subnet.go node.go", ACT_LOGGED, "subnet", f"delete policy route for {gateway} subnet {{name}}")
    add(21, "subnet.go", ACT_LOGGED, "subnet", "delete policy route for {gateway} subnet {name}")
    counts = "inconsistency detected in status of subnet {name} : {cause}"
    add(22, "subnet.go subnet_status.go", ERROR_LOGGED, "subnet", counts, releases="1.12-")
    for family in ("v4", "v6"):
        empty = f"subnet {{name}} has {{count}} {family} ip in use, while the {family} using ip range is empty"
        add(23, "subnet.go subnet_status.go", ERROR_LOGGED, "subnet", empty)
    finalizer = (
        "failed to remove finalizer from subnet {name}, {cause}",
        "failed to add finalizer to subnet {name}, {cause}",
    )
    add(24, "subnet.go", ERROR_LOGGED, "subnet", *finalizer)
    ready = "enqueue update subnet {name} triggered by ready to remove finalizer"
    add(25, "subnet.go", CHANGE_NOTICED, "subnet", ready, releases="1.15-")
    add(26, "ipam.go", ACT_LOGGED, "subnet", "adding new subnet {name}")
    add(27, "ipam.go", ACT_LOGGED, "subnet", "delete subnet {name}")
    add(28, "init.go", ACT_LOGGED, "subnet", "Init subnet {name}")
    add(28, "init.go", "", "", "take {number} seconds to initialize IPAM")

    # Addresses: IPAM names their holder, kube-ovn the IP object after it.
    both, old = "allocate v4 {v4}, v6 {v6}, mac {mac} for {holder}", "allocate v4 {v4} v6 {v6} mac {mac} for {holder}"
    add(29, "ipam.go", ACT_LOGGED, "ip", f"{both} from subnet {{subnet}}", releases="1.12-")
    add(29, "ipam.go", ACT_LOGGED, "ip", f"{old} from subnet {{subnet}}", old, releases="-1.11")
    add(30, "ipam.go", ACT_LOGGED, "ip", f"{both} from ippool {{pool}} in subnet {{subnet}}", releases="1.12-")
    add(31, "ipam.go", "", "", "allocating static ip {address} from subnet {subnet}", releases="1.12-")
    for family in ("v4", "v6"):
        static = f"allocate {family} {{address}}, mac {{mac}} for {{holder}} from subnet {{subnet}}"
        add(32, "ipam.go", ACT_LOGGED, "ip", static, releases="1.12-")
        older = f"allocate {family} {{address}} mac {{mac}} for {{holder}}"
        add(32, "ipam.go", ACT_LOGGED, "ip", older, releases="-1.11")
    taken = "ip {address} has been allocated to"
    add(33, "subnet.go", ERROR_LOGGED, "ip", f"{taken} {{holder}}", f"{taken} [{{holder}}]")
    add(33, "subnet.go", "", "", f"{taken} {{holders}}")
    for number, end in ((34, "add ip to released list"), (35, "ip is in reserved list"), (35, "ignore ip")):
        for family in ("v4", "v6"):
            release = f"release {family} {{address}} mac {{mac}}"
            now = f"{release} from subnet {{subnet}} for {{holder}}, {end}"
            add(number, "subnet.go", ACT_LOGGED, "ip", now, releases="1.12-")
            add(number, "subnet.go", ACT_LOGGED, "ip", f"{release} for {{holder}}, {end}", releases="-1.11")
    add(36, "ip.go", RUN_STARTED, "ip", "handle deleting ip {name}", releases="1.13-")
    add(37, "ip.go", ACT_LOGGED, "ip", "delete ip cr lsp {name} from switch {switch}")
    by_pod = "ip cr {name} release ipam pod key {pod} from subnet {subnet}"
    add(38, "ip.go", ACT_LOGGED, "ip", by_pod, releases="1.13-")
    add(38, "ip.go", ACT_LOGGED, "ip", "release ipam for deleted ip {name} from subnet {subnet}", releases="1.12")
    gone = "deleting ip {name} enqueue update status subnet {subnet}"
    add(39, "ip.go", ACT_LOGGED, "ip", gone, releases="1.13-")
    add(39, "ip.go", RUN_STARTED, "ip", "handle delete ip {name}", releases="1.12")
    add(40, "ip.go", ERROR_LOGGED, "ip", "subnet {subnet} not found for deleting ip {name}", releases="1.16-")
    retry = "enqueue update for removing finalizer to delete ip {name}"
    add(41, "ip.go init.go", CHANGE_NOTICED, "ip", retry, releases="1.14-")
    add(42, "ip.go", ERROR_LOGGED, "ip", "failed to handle del ip finalizer {cause}", run="ip")
    for field in ("subnet", "namespace", "podName", "podType", "macAddress", "v4IPAddress", "v6IPAddress"):
        add(43, "ip.go", REFUSAL_LOGGED, "ip", f"ip {{name}} {field} can not change", releases="1.13-")

    # Pod
    pod = "{namespace}/{name}"
    add(44, "pod.go", CHANGE_NOTICED, "pod", f"enqueue add pod {pod}", f"enqueue update pod {pod}")
    add(45, "pod.go", CHANGE_NOTICED, "pod", f"enqueue delete pod {pod}")
    add(46, "pod.go", CHANGE_NOTICED, "pod", f"enqueue delete pod {pod} after {{duration}}")
    add(47, "pod.go", RUN_STARTED, "pod", f"handle add/update pod {pod}", releases="1.12-")
    add(47, "pod.go", RUN_STARTED, "pod", f"handle add pod {pod}", f"handle update pod {pod}", releases="-1.11")
    add(48, "pod.go", ACT_LOGGED, "pod", f"sync pod {pod} allocated", releases="1.12-")
    add(49, "pod.go", ACT_LOGGED, "pod", f"sync pod {pod} routed")
    took = "take {number} ms to handle "
    add(50, "pod.go", RUN_ENDED, "pod", f"{took}add or update pod {pod}", releases="1.14-")
    add(50, "pod.go", RUN_ENDED, "pod", f"{took}sync pod {pod}", releases="1.12")
    add(50, "pod.go", RUN_ENDED, "pod", f"{took}add pod {pod}", f"{took}update pod {pod}", releases="-1.11")
    add(51, "pod.go", RUN_STARTED, "pod", f"handle delete pod {pod}")
    for keeper in ("sts", "vm"):
        add(52, "pod.go", RUN_STARTED, "pod", f"handle deletion of {keeper} pod {pod}", releases="1.16-")
        # Before, the name alone: which namespace it is in is not in the line.
        add(
            52,
            "pod.go",
            RUN_STARTED,
            "pod",
            f"handle deletion of {keeper} pod {{short}}",
            run="pod",
            releases="1.13-1.15",
        )
        add(53, "pod.go", ACT_LOGGED, "pod", f"try keep ip for {keeper} pod {pod}")
        add(54, "pod.go", REFUSAL_LOGGED, "pod", f"not keep ip for {keeper} pod {pod}")
    add(55, "pod.go node.go subnet.go", ACT_LOGGED, "pod", "delete logical switch port {port}")
    add(56, "pod.go", ACT_LOGGED, "pod", f"try release all ip address for deleting pod {pod}", releases="1.13-")
    add(56, "pod.go", ACT_LOGGED, "pod", f"release all ip address for deleting pod {pod}", releases="1.12")
    add(57, "pod.go", ACT_LOGGED, "ip", "delete ip CR {name}")
    add(58, "pod.go", RUN_ENDED, "pod", f"{took}delete pod {pod}")
    add(59, "pod.go", ERROR_LOGGED, "pod", "failed to get pod nets {cause}", run="pod", releases="-1.13")
    add(59, "pod.go", ERROR_LOGGED, "pod", f"failed to get kube-ovn nets of pod {pod}: {{cause}}", releases="1.14-")
    for which in ("default subnet", "namespace subnet", "attach subnet"):
        orphan = f"deletting pod {pod} {which} {{subnet}} already not exist, gc will clean its ip cr"
        add(60, "pod.go", ERROR_LOGGED, "pod", orphan, releases="1.14-")
    # The guards of getPodDefaultSubnet name the namespace, and not the pod whose run it is.
    unbound = (
        "namespace {tenant} network annotations is empty",
        "namespace {tenant} default logical switch is not found",
    )
    add(61, "pod.go", REFUSAL_LOGGED, "pod", *unbound, run="pod")

    # Namespace
    add(62, "namespace.go", RUN_STARTED, "namespace", "handle add/update namespace {name}", releases="1.12-")
    ignoring = 'vpc "{vpc}" is not found. Ignoring subnet "{name}": {cause}'
    add(63, "namespace.go", ERROR_LOGGED, "subnet", ignoring, releases="1.13.4-")
    add(
        63,
        "namespace.go",
        ERROR_LOGGED,
        "namespace",
        "failed to get custom vpc {cause}",
        run="namespace",
        releases="-1.13.3",
    )
    add(64, "namespace.go", ERROR_LOGGED, "namespace", "no logical switch annotation for ns {name}")
    add(65, "namespace.go", ERROR_LOGGED, "namespace", "patch namespace {name} failed {cause}")

    # NAT gateway: EIP
    eip = "vpc_nat_gw_eip.go"
    for verb in ("add", "update", "del"):
        add(66, eip, CHANGE_NOTICED, "eip", f"enqueue {verb} iptables eip {{name}}", releases="1.12-")
    add(67, eip, RUN_STARTED, "eip", "handle add iptables eip {name}", releases="1.12-")
    add(67, eip, RUN_STARTED, "eip", "handle add eip {name}", releases="-1.11")
    add(68, eip, RUN_STARTED, "eip", "handle update iptables eip {name}", releases="1.12-")
    add(69, eip, ACT_LOGGED, "eip", "handle update eip {name}")
    add(70, eip, ACT_LOGGED, "eip", 'clean eip "{name}" in pod', releases="1.12-")
    add(70, eip, ACT_LOGGED, "eip", "clean eip '{name}' in pod", releases="-1.11")
    used = "eip {name} is still being used by NAT rules: {kinds}, waiting for them to be deleted"
    add(71, eip, REFUSAL_LOGGED, "eip", used, releases="1.15-")
    add(72, eip, RUN_STARTED, "eip", "handle reset eip {name}")
    add(73, eip, ACT_LOGGED, "eip", "nat of eip {name} is {kinds}")
    add(74, eip, RUN_STARTED, "eip", "handle delete iptables eip {name}", releases="1.12-")
    add(74, eip, ACT_LOGGED, "eip", "deleted vpc nat eip {name}", releases="-1.11")
    add(75, eip, ERROR_LOGGED, "eip", "failed to clean eip '{name}' in pod, {cause}")
    add(76, eip, REFUSAL_LOGGED, "eip", "not support eip change ip, old ip '{old}', new ip '{new}'", run="eip")

    # NAT gateway: rules
    nat = "vpc_nat_gw_nat.go"
    add(77, nat, RUN_STARTED, "fip", "handle add iptables fip {name}", releases="1.12-")
    # By a copying slip, the DNAT's handler has the FIP's text: the line tells which it is.
    slip = (733, 454, 418, 466)
    add(78, nat, RUN_STARTED, "dnat", "handle update iptables fip {name}", releases="1.12-1.15", lines=slip)
    add(78, nat, RUN_STARTED, "fip", "handle update iptables fip {name}", releases="1.12-")
    add(78, nat, RUN_STARTED, "dnat", "handle update iptables dnat {name}", releases="1.16-")
    for kind in NAT_RULES:
        add(79, nat, CHANGE_NOTICED, kind, f"enqueue update to clean {kind} {{name}}", releases="-1.15")
        for words in ("add iptables", "delete iptables", "update"):
            add(79, nat, CHANGE_NOTICED, kind, f"enqueue {words} {kind} {{name}}")
        add(80, nat, ACT_LOGGED, kind, f"clean {kind} '{{name}}' in pod", releases="-1.15")
        add(80, nat, ACT_LOGGED, kind, f"final delete {kind} '{{name}}' in pod", releases="1.16-")
    for kind in ("fip", "dnat"):
        add(81, nat, ACT_LOGGED, kind, f"{kind} change ip, old ip '{{old}}', new ip {{new}}", run=kind)
    add(81, nat, ACT_LOGGED, "snat", "snat change ip, old ip {old}, new ip {new}", run="snat")
    add(82, nat, ACT_LOGGED, "fip", "reapply fip '{name}' in pod")
    add(82, nat, ACT_LOGGED, "dnat", "reapply dnat in pod for {name}")
    for kind in NAT_RULES:
        add(82, nat, RUN_ENDED, kind, f"{kind} {{name}} already ok")
    add(83, nat, REFUSAL_LOGGED, "fip", "{address} is using by the other fip {other}", run="fip")
    for kind in ("dnat", "snat"):
        add(84, nat, RUN_STARTED, kind, f"handle add iptables {kind} rule {{name}}", releases="1.12-")
        add(84, nat, RUN_STARTED, kind, f"handle add iptables {kind} {{name}}", releases="-1.11")
    add(84, nat, RUN_STARTED, "snat", "handle update iptables snat rule {name}", releases="1.12-")
    for kind in NAT_RULES:
        add(85, nat, RUN_ENDED, kind, f"deleted iptables {kind} {{name}}")

    # NAT gateway: itself
    gateway = "vpc_nat_gateway.go"
    add(86, gateway, RUN_STARTED, "nat-gateway", "handle add/update vpc nat gateway {name}", releases="1.12-")
    add(87, gateway, RUN_STARTED, "nat-gateway", "handle init vpc nat gateway {name}", releases="1.12-")
    add(88, gateway, ACT_LOGGED, "nat-gateway", "nat gw pod '{name}' inited at {stamp}", releases="-1.15")
    add(88, gateway, ACT_LOGGED, "nat-gateway", "nat gw pod '{place}/{name}' inited at {stamp}", releases="1.16-")
    for kind in NATS:
        add(89, gateway, RUN_STARTED, "nat-gateway", f"handle update vpc {kind} {{name}}", releases="1.12-")
        add(90, gateway, ACT_LOGGED, kind, f"redo {kind} {{name}}")
    routes = "handle update subnet route for nat gateway {name}"
    add(91, gateway, RUN_STARTED, "nat-gateway", routes)
    script = "bash /kube-ovn/nat-gateway.sh "
    for kind, word in (("eip", "eip"), ("fip", "floating-ip"), ("snat", "snat"), ("dnat", "dnat")):
        for what in ("add", "del"):
            add(92, gateway, ACT_LOGGED, kind, f"{script}{word}-{what} {{command}}", run=kind)
            told = f"executing NAT gateway command: {script}{word}-{what} {{command}}"
            add(92, gateway, ACT_LOGGED, kind, told, run=kind, releases="1.16-")
    add(92, gateway, ACT_LOGGED, "nat-gateway", script + "{command}", run="nat-gateway")
    told = f"executing NAT gateway command: {script}{{command}}"
    add(92, gateway, ACT_LOGGED, "nat-gateway", told, run="nat-gateway", releases="1.16-")
    failed = "failed to ExecuteCommandInContainer"
    add(93, gateway, ERROR_LOGGED, "nat-gateway", f"{failed} errOutput: {{cause}}", run=NAT_KINDS)
    add(93, gateway, ERROR_LOGGED, "nat-gateway", f"{failed}, errOutput: {{cause}}", run=NAT_KINDS)
    add(94, gateway, ACT_LOGGED, "nat-gateway", "delete vpc nat gw vpc-nat-gw-{name}", releases="-1.15")
    add(
        94,
        gateway,
        ACT_LOGGED,
        "nat-gateway",
        "delete vpc nat gw vpc-nat-gw-{name} in namespace {place}",
        releases="1.16-",
    )

    # The OVN kinds
    for verb in ("add", "update", "del"):
        add(95, "ovn_eip.go", CHANGE_NOTICED, "oeip", f"enqueue {verb} ovn eip {{name}}")
    add(95, "ovn_eip.go", CHANGE_NOTICED, "oeip", "enqueue update (deleting) ovn eip {name}", releases="1.15-")
    for verb in ("add", "update", "del", "deleting", "reset"):
        add(96, "ovn_eip.go", RUN_STARTED, "oeip", f"handle {verb} ovn eip {{name}}")
    add(97, "ovn_eip.go", ACT_LOGGED, "oeip", "nat of ovn eip {name} is {kinds}")
    held = "ovn eip '{name}' is still in use, finalizer will not be removed"
    add(98, "ovn_eip.go", REFUSAL_LOGGED, "oeip", held)
    for kind in NATS:
        waits = f"wait ovn {kind} {{name}} to be ready only in the handle add process"
        add(99, f"ovn_{kind}.go", REFUSAL_LOGGED, "o" + kind, waits)
    fip = "ovn_fip.go"
    add(
        100,
        fip,
        CHANGE_NOTICED,
        "ofip",
        "enqueue add ovn fip {name}",
        "enqueue update fip {name}",
        "enqueue del ovn fip {name}",
    )
    add(100, fip, RUN_STARTED, "ofip", "handle add fip {name}", "handle update fip {name}", "handle del ovn fip {name}")
    add(100, nat, ACT_LOGGED, "fip", "handle add fip {name}", "handle update fip {name}")
    for kind in NAT_RULES:
        going = f"enqueue update (deleting) ovn {kind} {{name}}"
        number = {"fip": 100, "snat": 102, "dnat": 103}[kind]
        add(number, f"ovn_{kind}.go", CHANGE_NOTICED, "o" + kind, going, releases="1.15-")
        add(number, f"ovn_{kind}.go", RUN_STARTED, "o" + kind, f"handle deleting ovn {kind} {{name}}", releases="1.15-")
    add(101, "ovn_fip.go ovn_snat.go", CHANGE_NOTICED, "oeip", "enqueue reset old ovn eip {name}")
    add(102, "ovn_snat.go", CHANGE_NOTICED, "osnat", "enqueue add ovn snat {name}", "enqueue del ovn snat {name}")
    for verb in ("add", "update", "delete"):
        add(102, "ovn_snat.go", RUN_STARTED, "osnat", f"handle {verb} ovn snat {{name}}")
    dnat = "ovn_dnat.go"
    add(103, dnat, CHANGE_NOTICED, "odnat", "enqueue add ovn dnat {name}", "enqueue del ovn dnat {name}")
    for words in ("handle add dnat {name}", "handle update dnat {name}", "handle delete ovn dnat {name}"):
        add(103, dnat, RUN_STARTED, "odnat", words)
    add(103, nat, ACT_LOGGED, "dnat", "handle update dnat {name}")
    missing = "not found logical router {router} nat 'type {type} external ip {outside} logical ip {inside}'"
    add(104, "ovn-nb-nat.go", ERROR_LOGGED, "ofip", missing, run=("ofip", "osnat"))

    # Collected
    add(105, "gc.go pod.go", ACT_LOGGED, "pod", "gc logical switch port {port}")
    add(105, "gc.go", ACT_LOGGED, "pod", "gc logical switch port {port} with uuid {uuid}", releases="1.15")
    add(106, "gc.go", ACT_LOGGED, "ip", "gc ip {name}", releases="1.12-")
    add(106, "gc.go", ACT_LOGGED, "ip", "subnet {subnet} already not exist, gc ip {name}", releases="1.14")
    add(106, "gc.go", REFUSAL_LOGGED, "ip", "gc skip reserved ip {name}", releases="1.13-")
    add(107, "gc.go", ACT_LOGGED, "subnet", "gc subnet {name}", releases="-1.13")
    add(107, "gc.go", ACT_LOGGED, "subnet", "gc logical switch {name}", releases="1.14-")
    add(107, "gc.go", ACT_LOGGED, "vpc", "gc router {name}", releases="-1.13")
    add(107, "gc.go", ACT_LOGGED, "vpc", "gc logical router {name}", releases="1.14-")
    add(108, "gc.go", "", "", "start to gc {what}", "finish to gc {what}")
    add(109, "init.go", "", "", "start to sync finalizers", "sync finalizers done")
    add(110, "controller.go", "", "", "Starting OVN controller", "Starting workers", "Shutting down workers")

    # Nodes and virtual addresses
    add(111, "node.go", RUN_STARTED, "node", "handle add node {name}", "handle delete node {name}")
    add(111, "node.go", ACT_LOGGED, "ip", "delete node ip {name}")
    add(112, "vip.go", CHANGE_NOTICED, "vip", "enqueue add vip {name}")
    add(112, "vip.go", RUN_STARTED, "vip", "handle delete vip {name}")
    add(112, "vip.go", RUN_STARTED, "vip", "handle deleting vip {name}", releases="1.15-")
    old_name = 'metadata.finalizers: "{finalizer}": prefer a domain-qualified finalizer name {cause}'
    add(113, "warnings.go", "", "", old_name)
    # Row 114, the errors of pkg/ipam, stands only inside the causes of other lines.

    daemon = _List(CNI)
    add = daemon.add
    # %v of a request prints its fields bare, %+v with their names (kube-ovn: pkg/request CniRequest).
    for number, words in ((115, "add port request: "), (119, "del port request: "), (119, "skip del port request: ")):
        event = RUN_STARTED if words.startswith(("add", "del")) else REFUSAL_LOGGED
        add(number, "handler.go", event, "pod", words + "{{type} {name} {namespace} {cause}")
        add(number, "handler.go", event, "pod", words + "{&{type} {name} {namespace} {cause}")
        add(number, "handler.go", "", "", words + "{cause}")
    add(
        119, "handler.go", RUN_STARTED, "pod", "delete port request {{type} {name} {namespace} {cause}", releases="-1.0"
    )
    waiting = "wait address for pod {namespace}/{name} provider {provider}"
    add(116, "handler.go", ACT_LOGGED, "pod", waiting)
    add(117, "handler.go", ACT_LOGGED, "pod", "wait route ready for pod {namespace}/{name} provider {provider}")
    wired = "create container interface {interface} mac {mac}, ip {address}, cidr {cidr}, gw {gateway}, "
    add(118, "handler.go", "", "", wired + "custom routes {cause}")
    add(118, "handler.go", "", "", wired + "u2o routes {routes}, custom routes {cause}", releases="1.11-1.12")
    for call in ("Incoming", "Outcoming", "Outgoing"):
        add(120, "server.go", "", "", f"[{{time}}] {call} {{cause}}", f"{call} {{cause}}")
    rule = "creating iptables rule in table {table} chain {chain} at position {number}: {cause}"
    add(121, "gateway_linux.go", "", "", rule, "deleted iptables rule in table {table} chain {chain}: {cause}")
    add(122, "gateway.go", "", "", "failed to set gw ipsets")
    return [*table.rows, *daemon.rows]


def _kube_router() -> list[Pattern]:
    table = _List(ROUTER)
    add = table.add
    controller, firewall = "network_policy_controller.go npc_iptables.go npc_nftables.go", "policy.go"
    services, syncing = "network_services_controller.go", "service_endpoints_sync.go"
    owners = f"policy.go {controller} {services} network_routes_controller.go"
    locks = ("Attempting to attain ipset mutex lock", LOCKED, "Returned ipset mutex lock")
    for number, words in enumerate(locks, 1):
        ending = ", continuing..." if number == 2 else ""
        add(number, owners, "", "", words + ending, releases="1.2.3-")
        add(number, "npc_iptables.go", "", "", f"{words} for protected-pods {{what}}", releases="2.7-")
    add(4, "ipset.go", ACT_LOGGED, "ipset", "ipset (ipv6? {ipv6}) restore looks like:{sets}", releases="2.1.2-")
    add(4, "ipset.go", ACT_LOGGED, "ipset", "ipset restore looks like: {sets}", releases="-2.1.1")
    command = "running ipset command: "
    add(5, "ipset.go", ACT_LOGGED, "ipset", command + "path=`{path}` args={arguments} stdin ```{sets}```")
    for verb in ("create", "add", "del", "destroy", "flush", "swap", "rename"):
        add(6, "ipset.go", ACT_LOGGED, "ipset", command + f"path=`{{path}}` args=[{{program}} {verb} {{set}} {{cause}}")
        add(6, "ipset.go", ACT_LOGGED, "ipset", command + f"path=`{{path}}` args=[{{program}} {verb} {{set}}]")
        add(7, "ipset.go", ACT_LOGGED, "ipset", command + f"[{{program}} {verb} {{set}} {{cause}}")
        add(7, "ipset.go", ACT_LOGGED, "ipset", command + f"[{verb} {{set}} {{cause}}")
    add(6, "ipset.go", "", "", command + "path=`{path}` args={cause}")
    add(7, "ipset.go", "", "", command + "{cause}")
    add(8, firewall, "", "", "Restoring {family} ipset took {duration}")
    add(9, controller, "", "", "Starting sync of iptables with version: {version}")
    add(10, controller, "", "", "sync iptables took {duration}", "sync nftables took {duration}")
    chains = "chains are synchronized with the network policies."
    add(
        11,
        "policy.go npc_nftables.go",
        "",
        "",
        f"Iptables chains in the filter table {chains[7:]}",
        f"nftables {chains}",
    )
    add(12, "policy.go npc_nftables.go", "", "", "Syncing network policy chains took {duration}")
    add(13, controller, "", "", "Aborting sync. Failed to sync network policy chains: {cause}")
    unused = "Failed to cleanup stale ipsets: "
    add(14, controller, ERROR_LOGGED, "ipset", unused + "failed to delete ipset {set} due to {cause}")
    add(14, controller, "", "", unused + "{cause}")
    for words in ("Saving", "Restoring"):
        add(15, controller, "", "", f"{words} {{family}} iptables rules took {{duration}}")
    both = "{namespace}/{name}"
    updates = (f"Received update for network policy: {both}", f"Received network policy: {both} delete event")
    add(16, "policy.go", CHANGE_NOTICED, "networkpolicy", *updates)
    updates = (f"Received update to pod: {both}", f"Received pod: {both} delete event")
    add(17, "pod.go", CHANGE_NOTICED, "pod", *updates)
    updates = ("Received update for namespace: {name}", "Received namespace: {name} delete event")
    add(18, "namespace.go", CHANGE_NOTICED, "namespace", *updates)
    periodic = "Requesting periodic sync of {tables} to reflect network policies"
    add(19, controller, "", "", periodic)
    merged = ("Received request for a full sync, processing", "Full sync request queue was full, skipping...")
    add(20, controller, "", "", *merged)
    add(21, services, CHANGE_NOTICED, "service", f"Received update to service: {both} from watch API")
    watched = f"{services} ecmp_vip.go"
    add(
        22,
        watched,
        CHANGE_NOTICED,
        "endpointslice",
        f"Received update to EndpointSlice: {both} from watch API",
        releases="2.0-",
    )
    add(
        22, watched, CHANGE_NOTICED, "endpoints", f"Received update to endpoint: {both} from watch API", releases="-1.6"
    )
    asked = "Syncing IPVS services sync "
    add(23, services, RUN_STARTED, "service", f"{asked}on update to service: {both}")
    add(
        23,
        services,
        RUN_STARTED,
        "endpoints",
        f"{asked}for update to endpoint: {both}",
        f"{asked}on update to endpoint: {both}",
    )
    skipped = f"Skipping IPVS services sync on endpoint: {both} update as nothing changed"
    add(24, services, REFUSAL_LOGGED, "endpoints", skipped)
    for words in (
        "requested sync of ipvs services",
        "periodic sync of ipvs services",
        "requested full sync of services",
    ):
        add(25, services, "", "", f"Performing {words}")
    add(26, syncing, "", "", "sync ipvs services took {duration}")
    for words in ("ClusterIP Services", "NodePort Services", "ExternalIP Services", "IPVS Firewall"):
        add(27, syncing, "", "", f"Syncing {words}")
    add(28, syncing, "", "", "Error syncing ipvs svc iptables rules to permit traffic to service VIP's: {cause}")
    cleaned = "which is no longer needed so cleaning up"
    add(29, syncing, "", "", f"Found an IP {{address}} {cleaned}")
    add(30, syncing, "", "", f"Found a IPVS service {{service}} {cleaned}")
    add(31, syncing, "", "", f"Found a destination {{destination}} in service {{service}} {cleaned}")
    idle = "Skipping setting up IPVS service for external IP and LoadBalancer IP for the service"
    add(32, syncing, REFUSAL_LOGGED, "service", f"{idle} {both} as it does not have active endpoints")
    foreign = "failed to lookup service by address {address}: {cause} - this does not appear to be a kube-router "
    add(33, services, "", "", foreign + "controlled service, skipping...", releases="2.2-")
    added = (
        "Successfully added service: {service}",
        "Successfully added destination {destination} to the service {service}",
    )
    add(34, "linux_networking.go", "", "", *added)
    peers = "route: '{address}/{length} via {hop}' to peers"
    add(35, "ecmp_vip.go", "", "", f"Withdrawing {peers}", f"Advertising {peers}")
    for what in ("pod subnets", "node addresses"):
        add(36, "network_routes_controller.go", "", "", f"failed to sync {what} ipsets: {{cause}}")
    add(36, "network_routes_controller.go", "", "", "failed to sync pod subnets / node addresses ipsets: {cause}")
    return table.rows


REQUEUED: tuple[Pattern, ...] = tuple(
    Pattern(CONTROLLER, 0, (), wording, RUN_FAILED, "", (), releases)
    for wording, releases in (
        ("error syncing '{key}': {cause}", "-1.12"),
        ("process: {queue}. err: error syncing '{key}': {cause}", "-1.12, NAT gateways"),
        ('error syncing {action} "{key}": {cause}', "1.13-"),
        ('"Unhandled Error" err={structured}', "1.13-"),
    )
)
"""The lines that end a failed run, in any file. Key and queue are in the text, or the file tells the queue."""

PATTERNS: tuple[Pattern, ...] = (*_kube_ovn(), *_kube_router())

QUEUE_KINDS: tuple[tuple[str, str], ...] = (
    ("forvpcnatgateway", "nat-gateway"),
    ("vpcnatgateway", "nat-gateway"),
    ("vpcfloatingip", "nat-gateway"),
    ("vpceip", "nat-gateway"),
    ("vpcsnat", "nat-gateway"),
    ("vpcdnat", "nat-gateway"),
    ("vpcsubnet", "nat-gateway"),
    ("iptableseip", "eip"),
    ("iptablesfip", "fip"),
    ("iptablesdnatrule", "dnat"),
    ("iptablesdnat", "dnat"),
    ("iptablessnatrule", "snat"),
    ("iptablessnat", "snat"),
    ("ovneip", "oeip"),
    ("ovnfip", "ofip"),
    ("ovnsnatrule", "osnat"),
    ("ovnsnat", "osnat"),
    ("ovndnatrule", "odnat"),
    ("ovndnat", "odnat"),
    ("virtualip", "vip"),
    ("vip", "vip"),
    ("namespace", "namespace"),
    ("subnet", "subnet"),
    ("node", "node"),
    ("vpc", "vpc"),
    ("pod", "pod"),
    ("ip", "ip"),
)
"""How the letters of a queue's name or an action end (`updateVpcEip`, `update status of vpc`): the kind of its keys."""

FILE_KINDS: dict[str, tuple[str, ...]] = {
    "vpc.go": ("vpc",),
    "subnet.go": ("subnet",),
    "pod.go": ("pod",),
    "ip.go": ("ip",),
    "namespace.go": ("namespace",),
    "node.go": ("node",),
    "vip.go": ("vip",),
    "vpc_nat_gateway.go": ("nat-gateway",),
    "vpc_nat_gw_eip.go": ("eip",),
    "vpc_nat_gw_nat.go": NAT_RULES,
    "ovn_eip.go": ("oeip",),
    "ovn_fip.go": ("ofip",),
    "ovn_snat.go": ("osnat",),
    "ovn_dnat.go": ("odnat",),
}
"""Whose keys the queues of a file have, for the requeue lines to 1.12 that name no queue."""

LOGRUS: tuple[tuple[str, str], ...] = (
    ("Queueing IP set for", CHANGE_NOTICED),
    ("Queuing IP set for", CHANGE_NOTICED),
    ("Doing full IP set rewrite", ACT_LOGGED),
    ("Calculated delta", ACT_LOGGED),
    ("Deleting IP set", ACT_LOGGED),
    ("Deleting ipset", ACT_LOGGED),
    ("Adding new members", ACT_LOGGED),
    ("Adding member to IP set", ACT_LOGGED),
    ("Removing member from IP set", ACT_LOGGED),
    ("Marking IP set as dirty", CHANGE_NOTICED),
    ("Failed", ERROR_LOGGED),
)
"""How a message of Kube-OVN's ipset library (kubeovn/felix, after Calico's felix/ipsets) begins, and what it is."""


def queue_kind(words: str) -> str:
    """The kind of the keys in a queue: of `updateVpcEip` nat-gateway, of `update status of vpc` vpc; empty if unknown."""
    letters = re.sub(r"[^a-z]", "", words.lower())
    for ending, kind in QUEUE_KINDS:
        if letters.endswith(ending):
            return kind
    return ""


# ---- looked up by a line's file and first word


class Candidates(NamedTuple):
    """What a message with a certain first word may be: `wanted` are the beginnings that make it worth a closer look."""

    wanted: tuple[bytes, ...] = ()
    known: tuple[bytes, ...] = ()
    patterns: tuple[tuple[bytes, Pattern], ...] = ()
    """Each behind its beginning; those of the file itself first."""


class FileTable(NamedTuple):
    """What may stand in one source file, by first word; `otherwise` where that word begins nothing."""

    words: dict[bytes, Candidates]
    otherwise: Candidates


STATEMENTS = Path(__file__).with_name("klog_statements.tsv")
_SHORTEST = 6  # a shorter beginning of a format is no mark of it
_VERB = re.compile(r"%[-+# 0]*[\d.*]*[a-zA-Z]")


class Table:
    """The patterns and the known statements, arranged for looking up. `kinds` are those that resources may be of."""

    def __init__(self, kinds: Container[str], patterns: Iterable[Pattern] = PATTERNS) -> None:
        every = tuple(patterns)
        self._wanted = [one for one in every if one.takes_the_lock or (one.kind in kinds and one.is_about_something)]
        self._known = [one for one in every if one not in self._wanted]
        self._statements: dict[str, list[bytes]] = {}
        for file, text in statements():
            begins = _VERB.split(text, maxsplit=1)[0].encode()
            if len(begins) >= _SHORTEST or "%" not in text:
                self._statements.setdefault(file, []).append(begins)
        self._files = frozenset(self._statements).union(*(one.files for one in every))
        self._made: dict[bytes, FileTable] = {}
        self._elsewhere = self._make("")

    def of(self, file: bytes) -> FileTable:
        """What may stand in a source file of that name; in one that is not known, what is unmistakable."""
        found = self._made.get(file)
        if found is None:
            name = file.decode("utf-8", "replace")
            if name not in self._files:
                return self._elsewhere
            found = self._made[file] = self._make(name)
        return found

    def _make(self, file: str) -> FileTable:
        # Files are split and renamed from release to release, so a text of its own is looked for in any; but what the
        # file itself says in those words is what it means.
        own_known = self._statements.get(file, [])
        own = [one for one in self._wanted if file in one.files]
        own.sort(key=lambda one: not one.lines)
        foreign = [one for one in self._wanted if file not in one.files and len(one.prefix) >= _SHORTEST]
        patterns = [*own, *REQUEUED, *(one for one in foreign if one.prefix not in own_known)]
        known = [text for text in own_known if b" " in text]
        for one in self._known:
            if file in one.files or (len(one.prefix) >= _SHORTEST and b" " in one.prefix):
                known.append(one.prefix)
        by_word: dict[bytes, tuple[list[Pattern], list[bytes]]] = {}
        for one in patterns:
            by_word.setdefault(_first_word(one.prefix), ([], []))[0].append(one)
        for text in known:
            by_word.setdefault(_first_word(text), ([], []))[1].append(text)
        loose = by_word.pop(b"", ([], []))  # begins with a field: an address, which is no word of another wording
        words = {word: _candidates(some, texts) for word, (some, texts) in by_word.items()}
        return FileTable(words, _candidates(*loose))


def _first_word(text: bytes) -> bytes:
    """The first word of every message that begins with `text`; empty where a field is part of it."""
    word, space, _ = text.partition(b" ")
    return word if space else b""


def _candidates(patterns: list[Pattern], known: list[bytes]) -> Candidates:
    return Candidates(
        tuple({one.prefix: None for one in patterns}),
        tuple(dict.fromkeys(known)),
        tuple((one.prefix, one) for one in patterns),
    )


def statements() -> Iterator[tuple[str, str]]:
    """Source file and format of every known statement."""
    for line in STATEMENTS.read_text(encoding="utf-8").splitlines():
        file, _, text = line.partition("\t")
        yield file, text.replace('\\"', '"').replace("\\n", "\n")


class Row(NamedTuple):
    """One line of the table in docs/sources.md."""

    component: str
    row: str
    wording: str
    event: str
    kind: str
    releases: str


def rows() -> list[Row]:
    """The table for people: every wording that is understood, in the order of the lists."""
    return [
        Row(
            one.component,
            str(one.row) if one.row else "requeue",
            one.wording,
            one.event or "ignored",
            one.kind,
            one.releases or "all",
        )
        for one in (*REQUEUED, *PATTERNS)
    ]


# ---- from fields to keys


def ip_of(holder: str) -> str:
    """The IP object of an address's holder: of pod `shop/web-0` it is `web-0.shop` (kube-ovn: ovs.PodNameToPortName)."""
    namespace, slash, name = holder.partition("/")
    return f"{name}.{namespace}" if slash else holder


def pod_of(port: str) -> Key | None:
    """The pod of a logical switch port: `web-0.shop`, or `web-0.shop.net1.shop.ovn` where the provider is another one."""
    parts = port.split(".")
    if len(parts) >= 5 and parts[-1] == "ovn":
        parts = parts[:-3]
    if len(parts) < 2 or not all(parts):
        return None
    return Key("pod", parts[-1], ".".join(parts[:-1]))
