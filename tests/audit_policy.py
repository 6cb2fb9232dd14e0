"""Which level a kube-apiserver records a request at, under an audit policy: its policy checker's rules, on audit events.

The tests of `deploy/` and of docs/audit-logs.md apply the policy to the recordings with it.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
NONE = "None"


def level_of(policy: Json, event: Json) -> str:
    """The level of the first rule that fits, or `None` where there is none, or the event's stage is left out."""
    for rule in policy["rules"]:
        if fits(rule, event):
            left_out = event["stage"] in (*policy.get("omitStages", ()), *rule.get("omitStages", ()))
            return NONE if left_out else rule["level"]
    return NONE


def fits(rule: Json, event: Json) -> bool:
    """Whether a rule is about that request. A list that is not there, or is empty, asks for nothing."""
    user = event.get("user") or {}
    if rule.get("users") and user.get("username") not in rule["users"]:
        return False
    if rule.get("userGroups") and not set(rule["userGroups"]) & set(user.get("groups") or ()):
        return False
    if rule.get("verbs") and event["verb"] not in rule["verbs"]:
        return False
    if rule.get("namespaces") or rule.get("resources"):
        return _fits_resource(rule, event)
    if rule.get("nonResourceURLs"):
        return _fits_path(rule, event)
    return True


def _fits_resource(rule: Json, event: Json) -> bool:
    reference = event.get("objectRef")
    if not reference:
        return False
    # What has no namespace has the empty one.
    if rule.get("namespaces") and reference.get("namespace", "") not in rule["namespaces"]:
        return False
    if not rule.get("resources"):
        return True
    resource, subresource = reference.get("resource", ""), reference.get("subresource", "")
    whole = f"{resource}/{subresource}" if subresource else resource
    for each in rule["resources"]:
        if each.get("group", "") != reference.get("apiGroup", ""):
            continue
        if not each.get("resources"):
            return True  # names are not even looked at
        if each.get("resourceNames") and reference.get("name", "") not in each["resourceNames"]:
            continue
        for named in each["resources"]:
            if named in (whole, "*"):
                return True
            if subresource and named == f"*/{subresource}":
                return True
            if named == f"{resource}/*":
                return True
    return False


def _fits_path(rule: Json, event: Json) -> bool:
    if event.get("objectRef"):
        return False
    path = event["requestURI"].partition("?")[0]
    return any(
        spec in ("*", path) or (spec.endswith("*") and path.startswith(spec.rstrip("*")))
        for spec in rule["nonResourceURLs"]
    )
