"""What a recording's `truth.json` says, in netledger's words: which findings there must be, and which there may be.

The truth files come from the scripts that played the controllers; they name objects and requests, no rules. This module
is the translation, and nothing else; `test_recordings` compares it with what a replay finds.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from domain.resources import FINALIZER, Key, kind_called
from projections.findings.rule import HEALED, OPEN

Entry = dict[str, Any]

SWITCH = "metadata.annotations[ovn.kubernetes.io/logical_switch]"
FINALIZERS = "metadata.finalizers"

# What the truth files call a fault: the rule that finds it, and the field where the fault's entry names none.
RULES = {
    "lost-update": ("lost-update", "status.subnets"),
    "leaked-finalizer": ("leaked-ip", FINALIZERS),
    "missing-reaction": ("namespace-not-bound", SWITCH),
    "status-not-backed": ("ready-without-configuration", "status.ready"),
    "stuck-deleting": ("stuck-deletion", FINALIZERS),
    "orphan": ("orphaned-subnet", "spec.vpc"),
}

# What is "not a fault" because it became right again: it may be found, if it is found healed.
WAS_WRONG_FOR_A_WHILE = frozenset(
    {"lost-update-healed", "late-reaction", "status-backed-late", "stale-then-corrected", "leak-cleared"}
)


class Fault(NamedTuple):
    """One fault, as a finding must tell it; `entry` is what the truth file says of it."""

    name: str
    key: Key
    field: str
    status: str
    audit_ids: frozenset[str]
    entry: Entry

    @property
    def label(self) -> str:
        return f"{self.name}-{self.key.name}"


def faults(truth: Entry) -> list[Fault]:
    """Every fault that is judged today, and every finding that its entry implies beside it."""
    found = []
    for entry in truth["faults"]:
        if "ipset" in entry["object"]:
            continue  # what falls out of an ipset does not show in an audit log
        name, field = RULES[entry["kind"]]
        healed = any(word in entry for word in ("healedBy", "repairedBy", "healed"))
        status = HEALED if healed else OPEN
        fault = Fault(
            name, key_of(entry["object"]), entry.get("field", field), status, frozenset(audit_ids(entry)), entry
        )
        found.append(fault)
        for namespace in entry.get("namespacesWithoutAnnotations", ()):
            key = key_of(namespace["object"])
            found.append(Fault("namespace-not-bound", key, SWITCH, status, fault.audit_ids, namespace))
        if entry.get("stuck"):
            found.append(Fault("stuck-deletion", fault.key, FINALIZERS, status, fault.audit_ids, entry))
    for entry in truth.get("orphans", ()):
        key = key_of(entry["object"])
        found.append(Fault("orphaned-subnet", key, "spec.vpc", OPEN, frozenset(audit_ids(entry)), entry))
    if "stuck" in truth:
        stuck = truth["stuck"]
        ids = frozenset(audit_ids(stuck))
        found.append(Fault("stuck-deletion", key_of(stuck["object"]), FINALIZERS, OPEN, ids, stuck))
    return found


def values(fault: Fault) -> tuple[Any, Any] | None:
    """What was reported and what would have been lawful, where the truth file says both."""
    entry = fault.entry
    match fault.name:
        case "lost-update" if "wrongExtra" in entry:
            return sorted([*entry["right"], *entry["wrongExtra"]]), sorted(entry["right"])
        case "lost-update" | "ready-without-configuration" if "wrong" in entry:
            return entry["wrong"][fault.field], entry["right"][fault.field]
        case "leaked-ip" | "stuck-deletion":
            return [FINALIZER], []
        case "namespace-not-bound" if isinstance(entry.get("right"), dict):
            return None, [entry["right"]["ovn.kubernetes.io/logical_switch"]]
        case "orphaned-subnet" if "refers" in entry:
            return entry["refers"].removeprefix("spec.vpc = "), None
    return None


def explained(truth: Entry) -> tuple[set[Key], set[Key]]:
    """The resources on which something may be found in any status, and those on which it may be found healed."""
    any_status = {fault.key for fault in faults(truth)}
    healed = set()
    for entry in truth["faults"]:
        any_status |= {key_of(name) for name in entry.get("related", ())}
        if "rootCauseObject" in entry:
            any_status.add(key_of(entry["rootCauseObject"]))
        healed |= {key_of(cleared["path"]) for cleared in entry.get("handClearedIPs", ())}
    any_status |= {key_of(entry["object"]) for entry in truth.get("notJudged", ())}
    for entry in (*truth.get("notFaults", ()), *truth.get("nearMisses", ())):
        if entry.get("kind") in WAS_WRONG_FOR_A_WHILE:
            healed |= {key_of(entry[named]) for named in ("object", "orphan") if named in entry}
    return any_status, healed


def key_of(name: str) -> Key:
    """The resource that `vpcs.kubeovn.io/vpc-shop` names, or a request's path; no fault is on a namespaced one."""
    kind, name = name.split("/")[-2:]
    return Key(kind_called(kind).name, "", name)


def audit_ids(entry: Any) -> Iterator[str]:
    """Every audit ID that stands anywhere in an entry."""
    if isinstance(entry, dict):
        if "auditID" in entry:
            yield entry["auditID"]
        yield from _of_all(entry.values())
    elif isinstance(entry, list):
        yield from _of_all(entry)


def _of_all(entries: Iterable[Any]) -> Iterator[str]:
    for entry in entries:
        yield from audit_ids(entry)
