"""Audit records of Services, endpoints, policies and nodes: which of their fields are read, and when a Service is gone."""

import json
from typing import Any

import pytest

from adapters.sources.audit_log import classify, operation
from adapters.sources.dialect import Recognised
from domain.events import OBSERVED
from domain.operations import MADE, REMOVED, Operation, OrderKey
from domain.resources import Key
from tests.replaying import replay_lines, replayed

S3 = "s3-buggy"
GROUPS = {"endpointslices": "discovery.k8s.io", "networkpolicies": "networking.k8s.io"}
TITLES = {
    "services": "Service",
    "endpoints": "Endpoints",
    "endpointslices": "EndpointSlice",
    "nodes": "Node",
    "pods": "Pod",
}


def record(resource: str, verb: str, answer: dict[str, Any] | None, number: int = 1, **more: Any) -> bytes:
    """A record as the API server writes it; `answer` is the object."""
    name = "one" if resource == "nodes" else "web"
    reference = {"resource": resource, "name": name, "apiGroup": GROUPS.get(resource, "")}
    if resource != "nodes":
        reference["namespace"] = "shop"
    event: dict[str, Any] = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "RequestResponse" if answer is not None else "Metadata",
        "auditID": f"id-{number}",
        "stage": "ResponseComplete",
        "requestURI": f"/api/v1/{resource}/{name}",
        "verb": verb,
        "user": {"username": "alice"},
        "objectRef": reference,
        "responseStatus": {"code": 201 if verb == "create" else 200},
        "requestReceivedTimestamp": f"2026-11-21T01:00:{number:02}.000000Z",
        "stageTimestamp": f"2026-11-21T01:00:{number:02}.500000Z",
    }
    if answer is not None:
        event["responseObject"] = answer
    event["objectRef"].update(more)
    return json.dumps(event).encode()


def thing(resource: str, revision: int, **parts: Any) -> dict[str, Any]:
    name = "one" if resource == "nodes" else "web"
    metadata = {"name": name, "uid": f"uid-{resource}", "resourceVersion": str(revision), **parts.pop("metadata", {})}
    if resource != "nodes":
        metadata["namespace"] = "shop"
    return {"kind": TITLES[resource], "apiVersion": "v1", "metadata": metadata, **parts}


def read(line: bytes) -> tuple[str, Operation]:
    found = classify(line)
    assert isinstance(found, Recognised)
    (head,) = found.heads
    return head.outcome, operation(line, OrderKey(1, 0, head.time, found.identity), head.outcome)


def test_what_endpoints_have_beside_spec_and_status_becomes_fields():
    subsets = [{"addresses": [{"ip": "10.0.0.9"}], "ports": [{"port": 80}]}]
    _, told = read(record("endpoints", "update", thing("endpoints", 5, subsets=subsets)))
    assert told.after == {"subsets": subsets}
    assert told.key == Key("endpoints", "shop", "web")
    _, empty = read(record("endpoints", "update", thing("endpoints", 6)))
    assert empty.after == {}


def test_what_a_slice_has_beside_spec_and_status_becomes_fields():
    parts = {"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.9"]}], "ports": [{"port": 80}]}
    _, told = read(record("endpointslices", "create", thing("endpointslices", 5, **parts)))
    assert told.after == parts


def test_such_fields_of_other_kinds_are_not_read():
    _, told = read(
        record("services", "update", thing("services", 5, subsets=[1], endpoints=[2], spec={"type": "ClusterIP"}))
    )
    assert told.after == {"spec.type": "ClusterIP"}


def test_of_a_node_only_its_place_in_the_network_becomes_fields():
    status = {
        "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
        "conditions": [{"type": "Ready", "lastHeartbeatTime": "2026-11-21T01:00:00Z"}],
        "images": [{"names": ["a"]}],
    }
    spec = {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"], "providerID": "x", "taints": []}
    _, told = read(record("nodes", "patch", thing("nodes", 5, spec=spec, status=status), subresource="status"))
    assert told.key == Key("node", "", "one")
    assert told.after == {
        "spec.podCIDR": "10.244.1.0/24",
        "spec.podCIDRs": ["10.244.1.0/24"],
        "status.addresses": status["addresses"],
    }


def test_a_kubelets_heartbeat_changes_nothing():
    def beat(number: int) -> bytes:
        status = {
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
            "conditions": [{"lastHeartbeatTime": number}],
        }
        return record("nodes", "patch", thing("nodes", 10 + number, status=status), number, subresource="status")

    events = replay_lines([beat(1), beat(2), beat(3)]).events
    assert [event.type for event in events] == ["NodeSighted", OBSERVED, OBSERVED]
    assert all(event.changed == {} for event in events[1:])


def test_of_a_pods_containers_only_the_ports_that_have_names_become_a_field():
    named = {"name": "http", "containerPort": 8080, "protocol": "TCP"}
    containers = [{"name": "app", "image": "x", "ports": [named, {"containerPort": 9}]}, {"name": "side"}]
    spec = {"nodeName": "one", "hostNetwork": True, "containers": containers}
    _, told = read(record("pods", "create", thing("pods", 5, spec=spec)))
    assert told.after == {
        "spec.nodeName": "one",
        "spec.hostNetwork": True,
        "spec.containers[].ports": [named],
    }
    _, plain = read(record("pods", "create", thing("pods", 6, spec={"containers": [{"name": "app"}]})))
    assert plain.after == {}


def test_the_answer_to_a_services_deletion_is_the_object_as_it_was_and_means_that_it_went():
    spec = {"clusterIP": "10.96.0.10"}
    created = record("services", "create", thing("services", 5, spec=spec), 1)
    deleted = record("services", "delete", thing("services", 5, spec=spec), 2)
    assert read(deleted)[0] == REMOVED
    run = replay_lines([created, deleted])
    assert [event.type for event in run.events] == ["ServiceCreated", "ServiceExposed", "ServiceRemoved"]
    assert run.events[-1].revision is None, "the revision in the answer is the one from before"


def test_the_answer_to_the_deletion_of_a_service_that_is_held_shows_that_it_stays():
    held = {"deletionTimestamp": "2026-11-21T01:00:02Z", "finalizers": ["service.kubernetes.io/load-balancer-cleanup"]}
    deleted = record("services", "delete", thing("services", 6, metadata=held, spec={"clusterIP": "10.96.0.10"}), 2)
    assert read(deleted)[0] == MADE


@pytest.mark.parametrize("resource", ["services", "endpoints", "nodes"])
def test_a_record_without_bodies_is_known_to_be_unknown(resource):
    (event,) = replay_lines([record(resource, "patch", None)]).events
    assert event.type.endswith("Sighted") and event.outcome == "unknown"


def test_a_real_recordings_service_has_its_external_address_and_its_slice_both_pods():
    world = replayed(S3).judged.reading.world
    service = world.live[Key("service", "web", "shop")]
    assert (service.state, service.get("spec.externalIPs")) == ("EXPOSED", ["203.0.113.10"])
    (piece,) = world.naming(service.key, "endpointslice")
    assert [one["addresses"] for one in piece.get("endpoints")] == [["10.244.1.11"], ["10.244.1.12"]]
    assert world.live[Key("networkpolicy", "web", "shop-in")].state == "IN_FORCE"


def test_where_every_service_and_its_endpoints_are_logged_none_is_left_without_the_other():
    world = replayed("mixed-seed7").judged.reading.world
    of = {
        kind: {(key.namespace, key.name) for key in world.live if key.kind == kind} for kind in ("service", "endpoints")
    }
    assert of["service"] == of["endpoints"] and len(of["service"]) == 49
    slices = [list(world.naming(key, "endpointslice")) for key in world.live if key.kind == "service"]
    assert all(len(found) == 1 for found in slices)
