"""A small kube-router on one node, in each of the designs that it has had, and another program beside it.

It plays the controllers against a kernel's sets as the dossier and kube-router's history tell (pkg/utils/ipset.go and
its callers), and writes the timeline that a recorder beside it would: what each had loaded, gave to `ipset restore`, and
what the kernel showed after it. `wanted` is what each set should contain, known here because here it is decided.
"""

from __future__ import annotations

import json
from enum import Enum

from domain.ipset_names import temporary_name

SVIP, PORTS = "kube-router-svip", "kube-router-svip-prt"
LOCAL, NODES = "kube-router-local-ips", "kube-router-node-ips"
PODS, PODS6 = "KUBE-DST-AAAABBBBCCCCDDDD", "inet6:KUBE-DST-AAAABBBBCCCCDDD6"
PROBES = "istio-inpod-probes-v4"

TYPES = {SVIP: "hash:ip", PORTS: "hash:ip,port", LOCAL: "hash:ip", NODES: "hash:ip", PODS: "hash:ip", PROBES: "hash:ip"}
TYPES[PODS6] = "hash:ip"

PROXY_SETS, POLICY_SETS = (SVIP, PORTS, LOCAL), (PODS, PODS6)


class Design(Enum):
    """How the network policy controller writes sets, by the versions in which it did so."""

    SAVE_FIRST = "1.6"  # save all, restore all
    STALE_MAP = "2.0 to 2.1.1"  # restore all, from what the last sync's end had saved
    FRESH_HANDLER = "2.1.2 to 2.4.1"  # only the sets that it makes itself
    SAVE_ALL = "2.5 to 2.6.0"  # save all and restore all again
    NAMED = "2.6.1"  # only sets with the right names, of which some were forgotten
    NAMED_ALL = "2.6.2"  # only sets with the right names


WINDOW = (Design.SAVE_FIRST, Design.SAVE_ALL)
"""Where another program can write between the controller's save and its restore: no mutex of kube-router's covers that."""


class Node:
    """One node: the kernel's sets, the controllers' memories, and the timeline."""

    def __init__(self, design: Design, actors: tuple[str, ...] = ("ipvs", "netpol", "routes", "istio-cni")) -> None:
        self.design = design
        self.proxy, self.policy, self.routing, self.istio = actors
        self.kernel: dict[str, set[str]] = {}
        self.wanted: dict[str, set[str]] = {}
        self.timeline: list[dict[str, object]] = []
        self.map: dict[str, set[str]] = {}  # what the policy controller has in memory
        self.syncing = False
        self.vips: set[str] = set()
        self.pods: set[str] = set()
        self._record("lab", "start", text=self._dump())
        self.node_address("10.0.0.1")
        self.probe("10.244.1.9")
        self.sync_proxy()
        self.sync_policy()

    # ---- what happens

    def service(self, vip: str) -> None:
        """A Service gets an external IP, or loses it: the proxy syncs."""
        self.vips ^= {vip}
        self.sync_proxy()

    def pod(self, address: str) -> None:
        """A pod comes or goes: the policy controller syncs."""
        self.pods ^= {address}
        self.sync_policy()

    def node_address(self, address: str) -> None:
        """A node comes or goes: the routing controller adds or deletes its address, and nothing else."""
        self._single(self.routing, NODES, address)

    def probe(self, address: str) -> None:
        """Istio adds or deletes a pod's address."""
        self._single(self.istio, PROBES, address)

    def sync_proxy(self) -> None:
        """The proxy writes its own sets, all from what it knows."""
        content = {SVIP: set(self.vips), PORTS: {f"{vip},tcp:80" for vip in self.vips}, LOCAL: {"127.0.0.1"}}
        if self.design is Design.NAMED:
            content[LOCAL] = self.kernel.get(LOCAL, set())  # made, and never filled (kube-router#1924)
        self.wanted |= {name: set(members) for name, members in content.items()}
        self._restore(self.proxy, content)

    def sync_policy(self) -> None:
        """A full sync of the policy controller, in one go."""
        self.begin_policy()
        self.end_policy()

    def begin_policy(self) -> None:
        """The sync begins: where it saves, it saves now."""
        self.syncing = True
        if self.design in WINDOW:
            self._load()

    def end_policy(self) -> None:
        """The sync ends: the sets are restored."""
        self.syncing = False
        own = {PODS: set(self.pods), PODS6: {f"fd00::{address.rpartition('.')[2]}" for address in self.pods}}
        if self.design is Design.NAMED:
            own[PODS6] = self.kernel.get(PODS6, set())  # not written, its name begins with inet6: (kube-router#1927)
        self.wanted |= {name: set(members) for name, members in own.items()}
        if self.design in (Design.FRESH_HANDLER, Design.NAMED, Design.NAMED_ALL):
            self.map = {}
        self._restore(self.policy, {**self.map, **own})
        if self.design is Design.STALE_MAP:
            self._load()  # cleanupStaleIPSets, at the end of the sync

    def restart_policy(self) -> None:
        """The policy controller starts anew: where it keeps a map, it loads that."""
        self.syncing = False
        self.map = {}
        if self.design is Design.STALE_MAP:
            self._load()

    # ---- how

    def _load(self) -> None:
        self.map = {name: set(members) for name, members in self.kernel.items()}
        self._record(self.policy, "memory-loaded", memory={name: sorted(self.map[name]) for name in sorted(self.map)})

    def _restore(self, actor: str, content: dict[str, set[str]]) -> None:
        lines: list[str] = []
        temporaries: dict[str, None] = {}
        for name in sorted(content):
            options = f"{TYPES[name]} timeout 0" + (" family inet6" if name.startswith("inet6:") else "")
            temporary = temporary_name(options)
            if temporary not in temporaries:
                lines += [f"create {temporary} {options}", f"flush {temporary}"]
            temporaries[temporary] = None
            lines += [f"add {temporary} {member} timeout 0" for member in sorted(content[name])]
            lines += [f"create {name} {options}", f"swap {temporary} {name}", f"flush {temporary}"]
        lines += [f"destroy {temporary}" for temporary in sorted(temporaries)]
        self.kernel |= {name: set(members) for name, members in content.items()}
        self._record(actor, "restore-input", text="\n".join(lines) + "\n", format="restore")
        self._record(actor, "after-restore", text=self._dump(), format="save")

    def _single(self, actor: str, name: str, member: str) -> None:
        lines = [] if name in self.kernel else [f"create {name} {TYPES[name]} timeout 0"]
        here, wanted = self.kernel.setdefault(name, set()), self.wanted.setdefault(name, set())
        wanted ^= {member}
        lines.append(f"{'add' if member in wanted else 'del'} {name} {member}")
        here.discard(member)
        if member in wanted:
            here.add(member)
        self._record(actor, "restore-input", text="\n".join(lines) + "\n", format="restore")

    def _dump(self) -> str:
        lines: list[str] = []
        for name, members in self.kernel.items():
            family = "inet6" if name.startswith("inet6:") else "inet"
            options = f"family {family} hashsize 1024 maxelem 65536 timeout 0 bucketsize 12 initval 0x{len(lines):08x}"
            lines.append(f"create {name} {TYPES[name]} {options}")
            lines += [f"add {name} {member} timeout 0" for member in sorted(members, reverse=True)]
        return "".join(f"{line}\n" for line in lines)

    def _record(self, actor: str, op: str, **more: object) -> None:
        number = len(self.timeline) + 1
        time = f"2027-01-15T08:{number // 600:02}:{number // 10 % 60:02}.{number % 10}00000Z"
        self.timeline.append({"seq": number, "t": time, "actor": actor, "op": op, **more})

    @property
    def lines(self) -> list[bytes]:
        """The timeline as a recorder writes it."""
        return [json.dumps(entry).encode() for entry in self.timeline]

    @property
    def missing(self) -> dict[str, set[str]]:
        """What should be in each set and is not."""
        found = {name: members - self.kernel.get(name, set()) for name, members in self.wanted.items()}
        return {name: members for name, members in found.items() if members}

    @property
    def surplus(self) -> dict[str, set[str]]:
        """What is in each set and should not be."""
        found = {name: members - self.wanted.get(name, set()) for name, members in self.kernel.items()}
        return {name: members for name, members in found.items() if members}
