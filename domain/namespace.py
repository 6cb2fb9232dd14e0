"""The life of a namespace's binding to a network (kube-ovn: pkg/controller/namespace.go; dossier 2.2, 3.8, #5028, #6836).

The controller writes the network into three annotations; a pod of a namespace without them gets no address.
`service` is next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from domain.events import Vocabulary, Write, appears, one_of, starts
from domain.lifecycle import ABSENT, GONE, SAME, SIGHTED, TERMINATING, Lifecycle, Row
from domain.operations import DELETION
from domain.resources import Key

UNBOUND = "UNBOUND"
BOUND = "BOUND"

LIVE = (UNBOUND, BOUND, SIGHTED)

SWITCH = "metadata.annotations[ovn.kubernetes.io/logical_switch]"

LIFECYCLE = Lifecycle(
    "namespace",
    (
        Row("NamespaceCreated", (ABSENT, GONE), UNBOUND, "a user asks for a namespace"),
        Row("NamespaceSighted", (ABSENT, GONE, *LIVE, TERMINATING), SIGHTED, "first heard of in mid-life"),
        Row(
            "NamespaceSightedTerminating",
            (ABSENT, GONE, *LIVE, TERMINATING),
            TERMINATING,
            "first heard of when its deletion had been asked for",
        ),
        Row("NamespaceBound", (*LIVE,), BOUND, "the controller writes its subnets into its annotations"),
        Row("NamespaceBound", (TERMINATING,), SAME, "annotated while it was going"),
        Row("NamespaceUnbound", (*LIVE,), UNBOUND, "its network annotations are taken off"),
        Row("NamespaceUnbound", (TERMINATING,), SAME, "its network annotations are taken off while it goes"),
        Row(
            "NamespaceRelabelled",
            (*LIVE, TERMINATING),
            SAME,
            "its labels change: a selector may choose it now",
        ),
        Row("NamespaceAnnotated", (*LIVE, TERMINATING), SAME, "other annotations change"),
        Row(
            "NamespaceStatusReported",
            (*LIVE, TERMINATING),
            SAME,
            "the namespace controller reports its phase",
        ),
        Row("NamespaceDeletionRequested", LIVE, TERMINATING, "a user deletes it; its content goes first"),
        Row("NamespaceRemoved", (*LIVE, TERMINATING), GONE, "its last finalizer came off"),
        Row("NamespaceVanished", (*LIVE, TERMINATING), GONE, "another object bears its name: it went unseen"),
    ),
    note="The annotations are the controller's claim: that they name a live subnet is checked as drift, not refused.",
)


def switches_of(fields: Mapping[str, Any]) -> list[str]:
    """The subnets in its annotation, the first of them its default."""
    return [name.strip() for name in str(fields.get(SWITCH) or "").split(",") if name.strip()]


def _refers(key: Key, fields: Mapping[str, Any]) -> Iterable[Key]:
    for name in switches_of(fields):
        yield Key("subnet", "", name)


VOCABULARY = Vocabulary(
    lifecycle=LIFECYCLE,
    begun="NamespaceCreated",
    sighted="NamespaceSighted",
    sighted_terminating="NamespaceSightedTerminating",
    deletion_requested="NamespaceDeletionRequested",
    ended="NamespaceRemoved",
    vanished="NamespaceVanished",
    writes=(
        Write("NamespaceDeletionRequested", one_of(DELETION), appears),
        Write("NamespaceBound", one_of(SWITCH), lambda before, after: bool(after)),
        Write("NamespaceUnbound", one_of(SWITCH)),
        Write("NamespaceRelabelled", starts("metadata.labels[")),
        Write("NamespaceStatusReported", starts("status.")),
        Write("NamespaceAnnotated", starts("metadata.", "spec.")),
    ),
    refers=_refers,
    reference_paths=frozenset({SWITCH}),
)
