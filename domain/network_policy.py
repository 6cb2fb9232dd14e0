"""The life of a NetworkPolicy (kube-router: pkg/controllers/netpol/policy.go; dossier 3.10).

What it stands for on a node, chains and sets, is made anew at each full sync and has no object of its own;
`projections/ipset_contents` says what the sets should hold. `node` is next.
"""

from __future__ import annotations

from domain.events import Vocabulary, Write, appears, names_nothing, one_of, starts
from domain.lifecycle import ABSENT, GONE, SAME, SIGHTED, TERMINATING, Lifecycle, Row
from domain.operations import DELETION

IN_FORCE = "IN_FORCE"

LIVE = (IN_FORCE, SIGHTED)

LIFECYCLE = Lifecycle(
    "networkpolicy",
    (
        Row(
            "NetworkPolicyCreated", (ABSENT, GONE), IN_FORCE, "a user asks for a policy; the next full sync enforces it"
        ),
        Row("NetworkPolicySighted", (ABSENT, GONE, *LIVE, TERMINATING), SIGHTED, "first heard of in mid-life"),
        Row(
            "NetworkPolicySightedTerminating",
            (ABSENT, GONE, *LIVE, TERMINATING),
            TERMINATING,
            "first heard of when its deletion had been asked for",
        ),
        Row(
            "NetworkPolicySpecChanged",
            (*LIVE, TERMINATING),
            SAME,
            "its selectors or rules change, and with them its sets",
        ),
        Row(
            "NetworkPolicyStatusReported", (*LIVE, TERMINATING), SAME, "a controller reports conditions (1.24 to 1.27)"
        ),
        Row("NetworkPolicyAnnotated", (*LIVE, TERMINATING), SAME, "labels or annotations change"),
        Row(
            "NetworkPolicyDeletionRequested",
            LIVE,
            TERMINATING,
            "deleted, and a finalizer of somebody's holds it: it is in force until it goes",
        ),
        Row("NetworkPolicyRemoved", (*LIVE, TERMINATING), GONE, "deleted: the next full sync drops its sets"),
        Row("NetworkPolicyVanished", (*LIVE, TERMINATING), GONE, "another object bears its name: it went unseen"),
    ),
)

VOCABULARY = Vocabulary(
    lifecycle=LIFECYCLE,
    begun="NetworkPolicyCreated",
    sighted="NetworkPolicySighted",
    sighted_terminating="NetworkPolicySightedTerminating",
    deletion_requested="NetworkPolicyDeletionRequested",
    ended="NetworkPolicyRemoved",
    vanished="NetworkPolicyVanished",
    writes=(
        Write("NetworkPolicyDeletionRequested", one_of(DELETION), appears),
        Write("NetworkPolicySpecChanged", starts("spec.")),
        Write("NetworkPolicyStatusReported", starts("status.")),
        Write("NetworkPolicyAnnotated", starts("metadata.")),
    ),
    refers=names_nothing,
    reference_paths=frozenset(),
)
