"""What the three rules on an EIP have in common: one table for `fip`, `snat` and `dnat`, each with events of its own name.

Like its EIP, a rule is ready when its own verb ran in the gateway's pod of today (kube-ovn: vpc_nat_gw_nat.go; dossier
3.6, #5115, #5806). They differ in what they map, and in what may not be beside them on one EIP: `fip` is next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from domain.events import Vocabulary, Write, one_of, starts
from domain.guarded import guarded_writes
from domain.lifecycle import ABSENT, GONE, SAME, SIGHTED, TERMINATING, Guard, Lifecycle, Row
from domain.resources import Key

if TYPE_CHECKING:
    from domain.world import Change, Resource, World

RULES = ("dnat", "fip", "snat")
"""The kinds of rule, in the order in which an EIP's `status.nat` lists them."""

REQUESTED = "REQUESTED"
READY = "READY"
REDO = "REDO"
CLASHING = "CLASHING"  # made beside a rule that it cannot work beside


def others_on_its_eip(world: World, change: Change, kind: str) -> Iterator[Resource]:
    """The rules of `kind` that are known to use, and to go on using, the EIP of the rule that is about to change."""
    eip = change.fields.get("spec.eip")
    if not eip:
        return
    for rule in world.naming(Key("eip", "", str(eip)), kind):
        if rule.key != change.key and not rule.terminating and not rule.blurred:
            yield rule


def nat_rule(
    name: str,
    *,
    verb: str,
    asked: str,
    moved: str,
    held_first_since: str,
    maps: tuple[str, ...],
    unless: tuple[Guard, ...] = (),
) -> Vocabulary:
    """The table and vocabulary of one kind of rule.

    Its events start with `name`, and its kind is that in small letters. `verb` configures it; `asked` and `moved` say
    why it is made and why it has to be configured again; the finalizer goes on before anything else
    `held_first_since` that change; `maps` are the fields beside `spec.eip` whose change makes it another rule; what
    `unless` speaks against leaves it CLASHING.
    """
    kind = name.lower()
    live = (REQUESTED, READY, REDO, SIGHTED, *((CLASHING,) if unless else ()))
    idle = tuple(state for state in live if state not in (READY, REDO))
    lifecycle = Lifecycle(
        kind,
        (
            Row(f"{name}Created", (ABSENT, GONE), REQUESTED, asked, unless, CLASHING if unless else SAME),
            Row(f"{name}Sighted", (ABSENT, GONE, *live, TERMINATING), SIGHTED, "first heard of in mid-life"),
            Row(
                f"{name}SightedTerminating",
                (ABSENT, GONE, *live, TERMINATING),
                TERMINATING,
                "first heard of when its deletion had been asked for",
            ),
            Row(f"{name}Configured", live, READY, f"{verb}-add was started for it in the gateway's pod of today"),
            Row(f"{name}Configured", (TERMINATING,), SAME, f"{verb}-add was started while it was going"),
            Row(f"{name}Deconfigured", live, REDO, f"{verb}-del was started for it"),
            Row(
                f"{name}Deconfigured",
                (TERMINATING,),
                SAME,
                f"{verb}-del was started: its deletion is under way",
            ),
            Row(
                f"{name}GatewayPodReplaced",
                (READY, REDO, SIGHTED),
                REDO,
                "the new gateway pod starts with no rules",
            ),
            Row(
                f"{name}GatewayPodReplaced",
                (*(state for state in idle if state != SIGHTED), TERMINATING),
                SAME,
                "a new gateway pod came",
            ),
            Row(
                f"{name}Guarded",
                (*live, TERMINATING),
                SAME,
                f"the controller puts its finalizer on (first, since {held_first_since})",
            ),
            Row(f"{name}Unguarded", (*live, TERMINATING), SAME, "a finalizer comes off"),
            Row(f"{name}Retargeted", (READY, REDO), REDO, moved),
            Row(f"{name}Retargeted", (*idle, TERMINATING), SAME, moved),
            Row(f"{name}SpecChanged", (*live, TERMINATING), SAME, "a user changes it"),
            Row(f"{name}Labelled", (*live, TERMINATING), SAME, "labels or annotations change"),
            Row(
                f"{name}StatusReported",
                (*live, TERMINATING),
                SAME,
                "the controller writes ready and redo: claims",
            ),
            Row(f"{name}DeletionRequested", live, TERMINATING, "a user deletes it; the finalizer holds it"),
            Row(
                f"{name}Removed",
                (*live, TERMINATING),
                GONE,
                "the last finalizer came off, or there was none to hold it",
            ),
            Row(f"{name}Vanished", (*live, TERMINATING), GONE, "another object bears its name: it went unseen"),
        ),
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
            Write(f"{name}Retargeted", one_of("spec.eip", *maps)),
            Write(f"{name}SpecChanged", starts("spec.")),
            Write(f"{name}StatusReported", starts("status.")),
            Write(f"{name}Labelled", starts("metadata.")),
        ),
        refers=_refers,
        reference_paths=frozenset({"spec.eip"}),
    )


def _refers(key: Key, fields: Mapping[str, Any]) -> Iterable[Key]:
    if name := fields.get("spec.eip"):
        yield Key("eip", "", name)
