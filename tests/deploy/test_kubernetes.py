"""The manifests fit together, and fit the daemon: what no schema sees."""

import ipaddress
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.cli.serving import settings
from adapters.daemon import END_SECONDS
from adapters.http.access import READ, AccessError, Tokens
from adapters.http.routes import ROUTES
from domain.resources import KINDS
from tests.deploy.settings import ROOT, made_in, serve

FOLDER = ROOT / "deploy" / "kubernetes"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@cache
def objects(name: str) -> tuple[dict[str, Any], ...]:
    return tuple(yaml.safe_load_all((FOLDER / name).read_text()))


def one(name: str) -> dict[str, Any]:
    (found,) = objects(name)
    return found


def pod() -> dict[str, Any]:
    found: dict[str, Any] = one("statefulset.yaml")["spec"]["template"]["spec"]
    return found


def container() -> dict[str, Any]:
    (found,) = pod()["containers"]
    assert isinstance(found, dict)
    return found


def told() -> dict[str, Any]:
    return tomllib.loads((FOLDER / "netledger.toml").read_text())


# ---- what it may read


def rules() -> list[dict[str, Any]]:
    role, _ = objects("rbac.yaml")
    found: list[dict[str, Any]] = role["rules"]
    return found


def test_the_role_reads_exactly_the_kinds_that_netledger_knows():
    granted = {(group, resource) for rule in rules() for group in rule["apiGroups"] for resource in rule["resources"]}
    assert granted == {(kind.group, kind.plural) for kind in KINDS if kind.served}


def test_the_role_reads_and_does_nothing_else():
    for rule in rules():
        assert set(rule) == {"apiGroups", "resources", "verbs"}
        assert rule["verbs"] == ["get", "list", "watch"]


def test_the_role_is_that_of_the_pods_own_account():
    role, binding = objects("rbac.yaml")
    account, space = one("serviceaccount.yaml"), one("namespace.yaml")["metadata"]["name"]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert [(who["kind"], who["name"], who["namespace"]) for who in binding["subjects"]] == [
        ("ServiceAccount", account["metadata"]["name"], space)
    ]
    assert pod()["serviceAccountName"] == account["metadata"]["name"]
    assert account["automountServiceAccountToken"] is False


# ---- one writer, that is let finish


def test_a_ledger_has_one_writer():
    stateful = one("statefulset.yaml")["spec"]
    assert stateful["replicas"] == 1
    assert stateful["updateStrategy"] == {"type": "RollingUpdate"}, "the pod goes before its successor comes"
    (claim,) = stateful["volumeClaimTemplates"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOncePod"]
    kept = stateful["persistentVolumeClaimRetentionPolicy"]
    assert kept == {"whenDeleted": "Retain", "whenScaled": "Retain"}


def test_it_has_the_time_that_it_takes_to_end():
    assert pod()["terminationGracePeriodSeconds"] > END_SECONDS + 5


def test_nothing_in_the_pod_has_more_rights_than_it_needs():
    context, own = pod()["securityContext"], container()["securityContext"]
    assert context["runAsNonRoot"] is True and context["runAsUser"] >= 10_000
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    labels = one("namespace.yaml")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod())


def test_the_user_is_that_of_the_image():
    image = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
    context = pod()["securityContext"]
    assert f"USER {context['runAsUser']}:{context['runAsGroup']}\n" in image
    assert context["fsGroup"] == context["runAsGroup"]


def test_only_the_ledgers_volume_can_be_written():
    mounts = container()["volumeMounts"]
    (claim,) = one("statefulset.yaml")["spec"]["volumeClaimTemplates"]
    written = [mount for mount in mounts if not mount.get("readOnly")]
    assert [mount["name"] for mount in written] == [claim["metadata"]["name"]]
    assert str(Path(told()["ledger"]).parent) == written[0]["mountPath"]


# ---- probes, ports, who reaches whom


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_a_probe_asks_a_route_that_anybody_may_ask(probe: str):
    asked = container()[probe]["httpGet"]
    (right,) = [described.right for described, _ in ROUTES if described.path == asked["path"]]
    assert right == ""
    assert (asked["port"], asked["scheme"]) == (container()["ports"][0]["name"], "HTTPS")


def test_a_restored_ledger_has_the_time_to_be_folded():
    probe = container()["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 1800


def test_being_behind_is_no_reason_to_be_killed():
    assert container()["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container()["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert one("service.yaml")["spec"]["publishNotReadyAddresses"] is True


def test_the_port_is_one_from_the_settings_to_the_service():
    _, _, port = told()["listen"].rpartition(":")
    (open_port,) = container()["ports"]
    assert open_port["containerPort"] == int(port)
    (served,) = one("service.yaml")["spec"]["ports"]
    assert (served["port"], served["targetPort"]) == (int(port), open_port["name"])
    for way in one("networkpolicy.yaml")["spec"]["ingress"]:
        assert way["ports"] == [{"port": open_port["name"]}]


def test_all_select_the_one_pod():
    stateful = one("statefulset.yaml")["spec"]
    labels = stateful["template"]["metadata"]["labels"]
    assert stateful["selector"]["matchLabels"] == labels
    assert one("service.yaml")["spec"]["selector"] == labels
    assert one("networkpolicy.yaml")["spec"]["podSelector"]["matchLabels"] == labels
    assert stateful["serviceName"] == one("service.yaml")["metadata"]["name"]


def test_no_way_in_or_out_is_open_to_everybody_and_addresses_are_to_be_replaced():
    spec = one("networkpolicy.yaml")["spec"]
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    example = ipaddress.ip_network("192.0.2.0/24")
    blocks = []
    for way, peers in (("ingress", "from"), ("egress", "to")):
        for rule in spec[way]:
            assert rule[peers] and rule["ports"], "one without is open to all"
            for peer in rule[peers]:
                assert peer and all(peer.values()), "an empty selector is everybody"
                blocks += [peer["ipBlock"]["cidr"]] if "ipBlock" in peer else []
    assert {ipaddress.ip_network(block) for block in blocks} == {example}
    written = (FOLDER / "networkpolicy.yaml").read_text()
    assert written.count("REPLACE") == len(blocks) == 2


# ---- settings and secrets


def test_every_secret_and_every_file_of_it_that_the_settings_name_is_in_the_template():
    template = {each["metadata"]["name"]: set(each["stringData"]) for each in objects("secrets.template.yaml")}
    folders = {mount["mountPath"]: mount["name"] for mount in container()["volumeMounts"]}
    secrets = {each["name"]: each["secret"] for each in pod()["volumes"] if "secret" in each}
    files = [Path(told()[key]) for key in ("tokens", "tls-cert", "tls-key", "client-ca")]
    for path in files:
        secret = secrets[folders[str(path.parent)]]
        assert path.name in template[secret["secretName"]]
        assert secret["defaultMode"] == 0o440, "a token file that every user may read is refused"
    assert {secret["secretName"] for secret in secrets.values()} <= set(template)


def test_with_the_template_as_it_is_nobody_is_let_in(tmp_path: Path):
    (tokens, *others) = objects("secrets.template.yaml")
    path = tmp_path / "tokens"
    path.write_text(tokens["stringData"]["tokens"])
    path.chmod(0o440)
    with pytest.raises(AccessError, match="64 hexadecimal digits"):
        Tokens(path)
    assert {value for other in others for value in other["stringData"].values()} == {"REPLACE"}


def test_no_file_holds_a_secret():
    for path in (ROOT / "deploy").rglob("*"):
        if path.is_file():
            assert not re.search(rb"-----BEGIN|\b[0-9a-f]{64} \w+ (read|ingest|command)", path.read_bytes()), path


def test_the_settings_are_ones_that_the_daemon_takes():
    printed = serve("--config", FOLDER / "netledger.toml", "--print-config")
    assert printed.returncode == 0, printed.stderr
    from_file = {line.partition(" = ")[0] for line in printed.stdout.splitlines() if "# file:" in line}
    assert from_file == set(told())


KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
clusters: [{name: here, cluster: {server: "https://127.0.0.1:6443"}}]
contexts: [{name: here, context: {cluster: here, user: me}}]
users: [{name: me, user: {token: REPLACE}}]
"""


def test_the_daemon_would_start_with_the_settings_once_the_secrets_are_there(tmp_path: Path):
    secrets = made_in(tmp_path / "secrets")
    text = (FOLDER / "netledger.toml").read_text()
    for key in ("tokens", "tls-cert", "tls-key", "client-ca"):
        text = text.replace(told()[key], str(secrets.folder / Path(told()[key]).name))
    (tmp_path / "netledger.toml").write_text(text)
    # In a pod the service account says how to reach the API server.
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    more = ("--ledger", tmp_path / "live.ledger", "--listen", "127.0.0.1:0", "--kubeconfig", tmp_path / "kubeconfig")
    checked = serve("--config", tmp_path / "netledger.toml", *more, "--check")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "[+]certificate" in checked.stdout and "[+]access" in checked.stdout


def test_the_pod_reads_the_settings_that_are_made_from_the_file():
    (made,) = one("kustomization.yaml")["configMapGenerator"]
    (volume,) = [each for each in pod()["volumes"] if "configMap" in each]
    assert volume["configMap"]["name"] == made["name"]
    (mount,) = [each for each in container()["volumeMounts"] if each["name"] == volume["name"]]
    (name,) = made["files"]
    assert container()["args"] == ["serve", "--config", f"{mount['mountPath']}/{name}"]


def test_no_variable_that_kubernetes_sets_is_a_setting():
    # For a Service called netledger it sets these in every pod beside it: NETLEDGER_PORT holds an address.
    assert pod()["enableServiceLinks"] is False
    given = {"NETLEDGER_PORT", "NETLEDGER_SERVICE_HOST", "NETLEDGER_SERVICE_PORT", "NETLEDGER_SERVICE_PORT_HTTPS"}
    assert not given & {option.envvar for option in settings()}


# ---- all of it


def named() -> Iterator[str]:
    kustomization = one("kustomization.yaml")
    yield from kustomization["resources"]
    yield from (name for made in kustomization["configMapGenerator"] for name in made["files"])


def test_every_file_is_applied_or_is_one_that_must_not_be():
    there = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}
    apart = {"kustomization.yaml", "secrets.template.yaml", "monitoring/servicemonitor.yaml"}
    assert there - apart == set(named())
    assert len(list(named())) == len(set(named()))


def test_every_manifest_is_linted():
    script = (ROOT / "deploy" / "check.sh").read_text()
    manifests = {name for name in named() if name.endswith(".yaml")} | {"secrets.template.yaml"}
    assert set(re.findall(r"kubernetes/([a-z.]+\.yaml)", script)) >= manifests


def test_the_image_is_that_of_this_version():
    assert container()["image"] == f"netledger:{VERSION}"
    assert one("kustomization.yaml")["images"] == [{"name": "netledger", "newTag": VERSION}]


def test_metrics_are_asked_for_with_a_token_where_they_are():
    monitor, service = one("monitoring/servicemonitor.yaml"), one("service.yaml")
    (endpoint,) = monitor["spec"]["endpoints"]
    (route,) = [described for described, _ in ROUTES if described.path == endpoint["path"]]
    assert route.right == READ
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    template = {each["metadata"]["name"]: set(each["stringData"]) for each in objects("secrets.template.yaml")}
    for reference in (endpoint["authorization"]["credentials"], endpoint["tlsConfig"]["ca"]["secret"]):
        assert reference["key"] in template[reference["name"]]
    # kustomization.yaml gives every object this label, the Service too.
    (labels,) = one("kustomization.yaml")["labels"]
    assert monitor["spec"]["selector"]["matchLabels"] == labels["pairs"]
