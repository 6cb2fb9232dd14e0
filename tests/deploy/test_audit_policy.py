"""What a kube-apiserver is told: its policy keeps all that netledger reads, and its webhook goes where netledger listens."""

import json
import re
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from adapters.http.access import INGEST
from adapters.http.routes import ROUTES
from adapters.sources.audit_log import classify
from adapters.sources.dialect import NotARecord, Recognised
from domain.resources import BY_RESOURCE
from tests.audit_policy import fits, level_of
from tests.replaying import DATA, lines_of

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "apiserver"
RECORDINGS = sorted(path.name for path in DATA.iterdir() if list(path.glob("audit*.log.gz")))
LEVELS = ("None", "Metadata", "Request", "RequestResponse")
WRITES = ("create", "update", "patch", "delete", "deletecollection")


@cache
def policy() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / "audit-policy.yaml").read_text())
    return loaded


def request(verb: str, resource: str, group: str = "", namespace: str = "") -> dict[str, Any]:
    """An event of that request; `resource` may be `pods/exec`."""
    resource, _, subresource = resource.partition("/")
    reference = {"resource": resource, "subresource": subresource, "apiGroup": group, "namespace": namespace}
    uri = f"/apis/{group}/v1/{resource}"
    return {"verb": verb, "stage": "ResponseComplete", "objectRef": reference, "requestURI": uri, "user": {}}


# ---- the policy


def test_the_policy_is_one_that_the_api_server_takes():
    # It reads it strictly: a key that it does not know keeps it from starting.
    assert (policy()["apiVersion"], policy()["kind"]) == ("audit.k8s.io/v1", "Policy")
    assert set(policy()) <= {"apiVersion", "kind", "metadata", "omitStages", "omitManagedFields", "rules"}
    for rule in policy()["rules"]:
        assert set(rule) <= {"level", "users", "userGroups", "verbs", "namespaces", "resources", "nonResourceURLs"}
        assert rule["level"] in LEVELS
        assert all(set(each) <= {"group", "resources", "resourceNames"} for each in rule.get("resources", ()))
        # It refuses a wildcard as a whole group's resources beside names, and a rule about both resources and paths.
        assert not (rule.get("resources") and rule.get("nonResourceURLs"))


def test_the_page_shows_the_policy_that_is_there():
    (shown,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / "audit-logs.md").read_text(), re.DOTALL)
    assert yaml.safe_load(shown) == policy()


def test_the_recordings_are_all_there():
    assert len(RECORDINGS) >= 15


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_record_that_netledger_recognises_is_kept_with_its_bodies(name: str):
    recognised = 0
    for line in lines_of(name):
        if isinstance(_classified(line), Recognised):
            recognised += 1
            event = json.loads(line)
            assert level_of(policy(), event) == "RequestResponse", event["requestURI"]
    assert recognised > 10


def test_of_all_that_netledger_does_not_read_hardly_anything_is_kept_and_the_page_says_how_much():
    count: Counter[str] = Counter()
    for name in RECORDINGS:
        for line in lines_of(name):
            if isinstance(_classified(line), Recognised):
                count["read"] += 1
                continue
            level = level_of(policy(), json.loads(line))
            assert level in ("None", "Metadata", "RequestResponse")
            count["noise"] += 1
            count["gone"] += level == "None"
            count["gone bytes"] += len(line) if level == "None" else 0
            count["noise bytes"] += len(line)
    share, weight = (100 * count[f"gone{what}"] / count[f"noise{what}"] for what in ("", " bytes"))
    page = " ".join((ROOT / "docs" / "deploy.md").read_text().split())
    told = f"of {count['noise']:,} records that netledger does not read, {share:.1f} % ({weight:.1f} % of their bytes)"
    assert told in page
    assert share > 90


@pytest.mark.parametrize("kind", BY_RESOURCE.values(), ids=lambda kind: kind.api)
def test_every_write_to_every_kind_is_kept_and_no_read(kind: Any):
    for verb in WRITES:
        assert level_of(policy(), request(verb, kind.plural, kind.group)) == "RequestResponse"
    for verb in ("get", "list", "watch"):
        assert level_of(policy(), request(verb, kind.plural, kind.group)) == "None"


@pytest.mark.parametrize("verb", ["create", "get"])
def test_an_exec_is_kept_over_spdy_and_over_a_websocket_when_it_starts(verb: str):
    event = request(verb, "pods/exec", namespace="kube-system") | {"stage": "ResponseStarted"}
    assert level_of(policy(), event) == "RequestResponse"


@pytest.mark.parametrize(
    ("resource", "group"),
    [
        ("secrets", ""),
        ("configmaps", ""),
        ("serviceaccounts", ""),
        ("serviceaccounts/token", ""),
        ("pods/attach", ""),
        ("pods/ephemeralcontainers", ""),
        ("tokenreviews", "authentication.k8s.io"),
        ("certificatesigningrequests", "certificates.k8s.io"),
    ],
)
def test_nothing_that_holds_secrets_is_recorded(resource: str, group: str):
    for verb in (*WRITES, "get", "list", "watch"):
        assert level_of(policy(), request(verb, resource, group, "kube-system")) == "None"


def test_a_quiet_cluster_still_has_a_pulse_without_bodies():
    lease = request("update", "leases", "coordination.k8s.io", "kube-system")
    assert level_of(policy(), lease) == "Metadata"
    # Those of the kubelets would be one every ten seconds for each node.
    lease["objectRef"]["namespace"] = "kube-node-lease"
    assert level_of(policy(), lease) == "None"


# ---- the matcher


@pytest.mark.parametrize(
    ("rule", "fitting"),
    [
        ({}, True),
        ({"users": ["alice"]}, True),
        ({"users": ["bob"]}, False),
        ({"userGroups": ["others", "humans"]}, True),
        ({"userGroups": ["others"]}, False),
        ({"verbs": ["get", "create"]}, True),
        ({"verbs": ["get"]}, False),
        ({"namespaces": ["shop"]}, True),
        ({"namespaces": [""]}, False),
        ({"resources": [{"group": ""}]}, True),
        ({"resources": [{"group": "apps"}]}, False),
        ({"resources": [{"group": "", "resources": ["pods"]}]}, False),
        ({"resources": [{"group": "", "resources": ["pods/exec"]}]}, True),
        ({"resources": [{"group": "", "resources": ["pods/*"]}]}, True),
        ({"resources": [{"group": "", "resources": ["*/exec"]}]}, True),
        ({"resources": [{"group": "", "resources": ["*/log"]}]}, False),
        ({"resources": [{"group": "", "resources": ["*"]}]}, True),
        ({"resources": [{"group": "", "resources": ["pods/exec"], "resourceNames": ["gw"]}]}, True),
        ({"resources": [{"group": "", "resources": ["pods/exec"], "resourceNames": ["other"]}]}, False),
        ({"namespaces": ["other"], "resources": [{"group": ""}]}, False),
        ({"nonResourceURLs": ["*"]}, False),
    ],
)
def test_a_rule_fits_as_the_api_server_decides_it(rule: dict[str, Any], fitting: bool):
    event = request("create", "pods/exec", namespace="shop")
    event["objectRef"]["name"] = "gw"
    event["user"] = {"username": "alice", "groups": ["humans"]}
    assert fits(rule, event) is fitting


@pytest.mark.parametrize(
    ("spec", "fitting"), [("*", True), ("/healthz", False), ("/livez", True), ("/liv*", True), ("/livez/", False)]
)
def test_a_rule_on_paths_fits_what_is_no_resource(spec: str, fitting: bool):
    assert fits({"nonResourceURLs": [spec]}, {"verb": "get", "requestURI": "/livez?verbose", "user": {}}) is fitting


def test_the_first_rule_that_fits_decides_and_stages_may_be_left_out():
    event = request("get", "pods")
    rules = [{"level": "Metadata", "omitStages": ["Panic"]}, {"level": "Request"}]
    assert level_of({"rules": rules}, event) == "Metadata"
    assert level_of({"rules": rules}, event | {"stage": "Panic"}) == "None"
    assert level_of({"rules": rules, "omitStages": ["ResponseComplete"]}, event) == "None"
    assert level_of({"rules": []}, event) == "None"


# ---- the webhook


@cache
def webhook() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((FOLDER / "audit-webhook.kubeconfig").read_text())
    return loaded


def chosen(what: str, name: str) -> dict[str, Any]:
    """The entry of a kubeconfig's list by that name."""
    (found,) = [each[what.rstrip("s")] for each in webhook()[what] if each["name"] == name]
    loaded: dict[str, Any] = found
    return loaded


def test_the_webhook_posts_over_tls_to_a_route_that_takes_records():
    context = chosen("contexts", webhook()["current-context"])
    address = urlsplit(chosen("clusters", context["cluster"])["server"])
    assert address.scheme == "https"
    (route,) = [described for described, _ in ROUTES if described.path == address.path]
    assert (route.method, route.right) == ("POST", INGEST)


def test_the_webhook_names_its_credentials_and_holds_none():
    context = chosen("contexts", webhook()["current-context"])
    cluster, user = chosen("clusters", context["cluster"]), chosen("users", context["user"])
    assert set(cluster) == {"server", "certificate-authority"}
    assert set(user) == {"client-certificate", "client-key"}


@pytest.mark.parametrize("settings", ["systemd/netledger.toml", "kubernetes/netledger.toml"])
def test_who_the_webhook_is_may_post_and_nothing_else(settings: str):
    told = tomllib.loads((ROOT / "deploy" / settings).read_text())
    assert told["client"] == [f"{chosen('contexts', 'netledger')['user']}=ingest"]


# ---- the API server's flags


def patched() -> dict[str, Any]:
    """A static pod as kubeadm writes it, with the patch on it."""
    pod: dict[str, Any] = {"spec": {"containers": [{"command": ["kube-apiserver"], "volumeMounts": []}], "volumes": []}}
    for step in yaml.safe_load((FOLDER / "kube-apiserver+json.yaml").read_text()):
        assert set(step) == {"op", "path", "value"} and step["op"] == "add" and step["path"].endswith("/-")
        place: Any = pod
        for part in step["path"].split("/")[1:-1]:
            place = place[int(part) if part.isdecimal() else part]
        place.append(step["value"])
    return pod


def flags() -> dict[str, str]:
    return dict(flag.removeprefix("--").split("=") for flag in patched()["spec"]["containers"][0]["command"][1:])


def test_what_the_flags_name_lies_where_the_pod_sees_it():
    container = patched()["spec"]["containers"][0]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert set(mounts) == {volume["name"] for volume in patched()["spec"]["volumes"]}
    for flag in ("audit-policy-file", "audit-webhook-config-file"):
        path = Path(flags()[flag])
        assert (FOLDER / path.name).exists()
        assert str(path.parent) == mounts["netledger"]["mountPath"]
    assert mounts["netledger"]["readOnly"] is True
    context = chosen("contexts", webhook()["current-context"])
    named = {**chosen("clusters", context["cluster"]), **chosen("users", context["user"])}
    for path in (Path(value) for key, value in named.items() if key != "server"):
        assert str(path.parent) == mounts["netledger"]["mountPath"]


@pytest.mark.parametrize("settings", ["systemd/netledger.toml", "kubernetes/netledger.toml"])
def test_a_batch_is_sent_well_before_the_window_closes(settings: str):
    waits = float(flags()["audit-webhook-batch-max-wait"].removesuffix("s"))
    assert 2 * waits <= tomllib.loads((ROOT / "deploy" / settings).read_text())["window"]


def test_a_write_to_the_cluster_never_waits_for_netledger():
    assert flags()["audit-webhook-mode"] == "batch"
    assert "audit-webhook-truncate-enabled" not in flags()


def _classified(line: bytes) -> object:
    try:
        return classify(line)
    except NotARecord:
        return None
