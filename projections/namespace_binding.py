"""Namespace binding: which subnets serve a namespace, and which its annotations name (kube-ovn: handleAddNamespace).

`audit_trail` is next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain.namespace import SWITCH, switches_of
from domain.resources import Key
from domain.world import Resource, World
from projections.standing import Standing


def serves(subnet: Resource, name: str, labels: Mapping[str, str]) -> bool:
    """Whether a subnet serves a namespace: it is the default, it names it, or one of its selectors chooses it."""
    if subnet.terminating or subnet.blurred:
        return False
    return subnet.get("spec.default") is True or chooses(subnet, name, labels)


def chooses(subnet: Resource, name: str, labels: Mapping[str, str]) -> bool:
    """Whether a subnet names a namespace or selects it by label."""
    if name in (subnet.get("spec.namespaces") or ()):
        return True
    selectors = subnet.get("spec.namespaceSelectors")
    if not isinstance(selectors, list):
        return False
    return any(matches(selector, labels) for selector in selectors if isinstance(selector, dict))


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """A Kubernetes label selector. An empty one matches nothing here, as in kube-ovn's use of it."""
    wanted = selector.get("matchLabels") or {}
    expressions = selector.get("matchExpressions") or []
    if not wanted and not expressions:
        return False
    return all(labels.get(label) == value for label, value in wanted.items()) and all(
        _holds(expression, labels) for expression in expressions
    )


def labels_of(fields: Mapping[str, Any]) -> dict[str, str]:
    """The labels among the fields of an object."""
    prefix = "metadata.labels["
    return {path[len(prefix) : -1]: str(value) for path, value in fields.items() if path.startswith(prefix)}


def serving(world: World, subnets: Mapping[Key, None], name: str, labels: Mapping[str, str]) -> list[str]:
    """The live subnets that serve a namespace; those that choose it come before the default."""
    found = [subnet for key in subnets if (subnet := world.get(key)) is not None and serves(subnet, name, labels)]
    chosen = sorted(subnet.key.name for subnet in found if chooses(subnet, name, labels))
    return chosen or sorted(subnet.key.name for subnet in found)


def standing(world: World, namespace: Resource) -> Standing:
    """Which subnets the annotations name, and whether those are there."""
    named = switches_of(namespace.fields)
    gone = [name for name in named if (left := world.gone(Key("subnet", "", name))) is not None and left.seen]
    lawful = [name for name in named if name not in gone]
    return Standing(
        lawful={SWITCH: lawful if gone else (named or None)},
        reported={SWITCH: named},
        because={SWITCH: f"subnet {', '.join(gone)} is gone" if gone else "every subnet it names may be there"},
    )


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    label, values = str(expression.get("key")), expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return labels.get(label) in values
        case "NotIn":
            return labels.get(label) not in values
        case "Exists":
            return label in labels
        case "DoesNotExist":
            return label not in labels
        case _:
            return False
