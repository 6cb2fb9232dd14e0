"""The life of an OvnFip, OvnSnatRule or OvnDnatRule: one table, each with events of its own name (dossier 3.7, #7405).

They are rows of OVN's NAT table, made by the controller's add handler alone: a later change of the spec is refused by
it, and what was made stays. No audit log shows these rows, so no state here says that a rule works. `namespace` is next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from domain.events import Vocabulary, Write, starts
from domain.guarded import guarded_writes
from domain.lifecycle import ABSENT, GONE, SAME, SIGHTED, TERMINATING, Guard, Lifecycle, Row
from domain.resources import Key

if TYPE_CHECKING:
    from domain.world import Change, World

RULES = ("odnat", "ofip", "osnat")
"""The kinds of rule, in the order in which an OvnEip's `status.nat` lists them, there without the `o`."""

CREATED = "CREATED"
GUARDED = "GUARDED"
UNUSABLE = "UNUSABLE"  # made on the address of a gateway node's port

LIVE = (CREATED, GUARDED, SIGHTED, UNUSABLE)

# Written when it was made in OVN: the OvnEip that it uses, whatever its spec says later.
USED = "metadata.annotations[ovn.kubernetes.io/vpc_eip]"


def _eip_is_a_nodes(world: World, change: Change) -> str | None:
    name = str(change.fields.get("spec.ovnEip") or "")
    eip = world.get(Key("oeip", "", name))
    if eip is None or eip.get("spec.type") != "lsp":
        return None
    return f"OvnEip {name} is of type lsp, a gateway node's own address"


eip_is_a_nodes = Guard("eip_is_a_nodes", "its OvnEip is a gateway node's own (type lsp)", _eip_is_a_nodes)


def _refers(key: Key, fields: Mapping[str, Any]) -> Iterable[Key]:
    for path in ("spec.ovnEip", USED):
        if name := fields.get(path):
            yield Key("oeip", "", str(name))
    if vpc := fields.get("spec.vpc"):
        yield Key("vpc", "", vpc)


def _ovn_rule(kind: str, name: str, asked: str) -> Vocabulary:
    """The table and vocabulary of one kind, whose events start with `name`; `asked` says what a user wants of it."""
    lifecycle = Lifecycle(
        kind,
        (
            Row(f"{name}Created", (ABSENT, GONE), CREATED, asked, (eip_is_a_nodes,), UNUSABLE),
            Row(f"{name}Sighted", (ABSENT, GONE, *LIVE, TERMINATING), SIGHTED, "first heard of in mid-life"),
            Row(
                f"{name}SightedTerminating",
                (ABSENT, GONE, *LIVE, TERMINATING),
                TERMINATING,
                "first heard of when its deletion had been asked for",
            ),
            Row(f"{name}Guarded", (CREATED, SIGHTED), GUARDED, "the controller puts its finalizer on"),
            Row(
                f"{name}Guarded",
                (GUARDED, UNUSABLE),
                SAME,
                "a finalizer comes on under a second name, or on what cannot be made",
            ),
            Row(
                f"{name}Unguarded",
                (GUARDED, SIGHTED),
                CREATED,
                "the finalizer comes off an object that is not deleted",
            ),
            Row(f"{name}Unguarded", (CREATED, UNUSABLE, TERMINATING), SAME, "one of several finalizers comes off"),
            Row(
                f"{name}SpecChanged",
                (*LIVE, TERMINATING),
                SAME,
                "the controller fills it in; what a user changes it does not follow",
            ),
            Row(f"{name}Labelled", (*LIVE, TERMINATING), SAME, "labels or annotations change"),
            Row(f"{name}StatusReported", (*LIVE, TERMINATING), SAME, "the controller writes ready: a claim"),
            Row(f"{name}DeletionRequested", LIVE, TERMINATING, "a user deletes it; the finalizer holds it"),
            Row(
                f"{name}Removed",
                (*LIVE, TERMINATING),
                GONE,
                "the last finalizer came off, or there was none to hold it",
            ),
            Row(f"{name}Vanished", (*LIVE, TERMINATING), GONE, "another object bears its name: it went unseen"),
        ),
        note="`status.ready` moves no state: it is set from the absence of an error (#6841), and OVN is not in the log.",
    )
    return Vocabulary(
        lifecycle=lifecycle,
        begun=f"{name}Created",
        sighted=f"{name}Sighted",
        sighted_terminating=f"{name}SightedTerminating",
        deletion_requested=f"{name}DeletionRequested",
        ended=f"{name}Removed",
        vanished=f"{name}Vanished",
        writes=(
            *guarded_writes(name),
            Write(f"{name}SpecChanged", starts("spec.")),
            Write(f"{name}StatusReported", starts("status.")),
            Write(f"{name}Labelled", starts("metadata.")),
        ),
        refers=_refers,
        reference_paths=frozenset({"spec.ovnEip", "spec.vpc", USED}),
    )


VOCABULARIES = {
    "ofip": _ovn_rule("ofip", "OvnFIP", "a user maps an OvnEip to an inside address"),
    "osnat": _ovn_rule("osnat", "OvnSNAT", "a user lets a subnet or an address out by an OvnEip"),
    "odnat": _ovn_rule("odnat", "OvnDNAT", "a user maps a port of an OvnEip to an inside port"),
}
