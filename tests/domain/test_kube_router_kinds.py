"""Services, their endpoints, policies and nodes: what a creation is made of, what moves their state, and what does not."""

import json

import pytest

from domain.decide import consequences
from domain.operations import FINALIZERS, MADE, REMOVED
from domain.service import cluster_addresses
from tests.domain.stories import Story, key_of

GARBAGE = "system:serviceaccount:kube-system:generic-garbage-collector"
SERVICE, ENDPOINTS, SLICE = "service/shop/web", "endpoints/shop/web", "endpointslice/shop/web-x7k2p"
ADDRESS = {"spec.clusterIP": "10.96.0.10", "spec.clusterIPs": ["10.96.0.10"]}
SUBSETS = {"subsets": [{"addresses": [{"ip": "10.0.0.9", "nodeName": "one"}]}]}
LABEL = {"metadata.labels[kubernetes.io/service-name]": "web"}
READY = [{"addresses": ["10.0.0.9"], "conditions": {"ready": True}, "nodeName": "one"}]
NOT_READY = [{"addresses": ["10.0.0.9"], "conditions": {"ready": False}}]


@pytest.mark.parametrize(
    ("path", "fields", "begun", "also", "state"),
    [
        (SERVICE, ADDRESS, "ServiceCreated", "ServiceExposed", "EXPOSED"),
        (SERVICE, {"spec.clusterIPs": ["fd00::10"]}, "ServiceCreated", "ServiceExposed", "EXPOSED"),
        (SERVICE, {"spec.clusterIP": "None", "spec.clusterIPs": ["None"]}, "ServiceCreated", "", "UNEXPOSED"),
        (SERVICE, {"spec.type": "ExternalName"}, "ServiceCreated", "", "UNEXPOSED"),
        (ENDPOINTS, SUBSETS, "EndpointsCreated", "EndpointsFilled", "SERVING"),
        (ENDPOINTS, {}, "EndpointsCreated", "", "EMPTY"),
        (ENDPOINTS, {"subsets": [{"notReadyAddresses": [{"ip": "10.0.0.9"}]}]}, "EndpointsCreated", "", "EMPTY"),
        (SLICE, {"endpoints": READY}, "EndpointSliceCreated", "EndpointSliceFilled", "SERVING"),
        (SLICE, {"endpoints": [{"addresses": ["10.0.0.9"]}]}, "EndpointSliceCreated", "EndpointSliceFilled", "SERVING"),
        (SLICE, {"endpoints": NOT_READY}, "EndpointSliceCreated", "", "EMPTY"),
        ("node/one", {"spec.podCIDR": "10.244.1.0/24"}, "NodeCreated", "NodePodRangeAssigned", "ROUTABLE"),
        ("node/one", {"status.addresses": []}, "NodeCreated", "", "REGISTERED"),
    ],
)
def test_what_an_object_is_made_with_is_an_event_of_its_own(path, fields, begun, also, state):
    story = Story()
    story.when.create(path, fields)
    story.then.recorded(*([f"{begun} {path}"] + ([f"{also} {path}"] if also else [])))
    story.is_in(path, state)
    assert story.live(path).fields == fields and story.live(path).seen_from_birth
    if also:
        second = story.last[1]
        assert second.cause == f"{begun} {key_of(path).tag}" and second.changed == {}
        assert second.record == story.last[0].record


def test_what_is_first_heard_of_in_mid_life_stays_sighted_though_it_has_an_address():
    story = Story()
    story.exists(SERVICE, ADDRESS)
    story.when.write(SERVICE, {"spec.externalIPs": ["203.0.113.10"]}, by="alice")
    story.then.recorded(f"ServiceSighted {SERVICE}")
    story.is_in(SERVICE, "SIGHTED")


def test_an_external_address_moves_no_state_and_says_what_moved():
    story = Story()
    story.given.create(SERVICE, ADDRESS)
    story.when.write(SERVICE, {"spec.externalIPs": ["203.0.113.10"], "spec.externalTrafficPolicy": "Cluster"})
    story.then.recorded(f"ServiceExternalAddressesChanged {SERVICE}", f"ServiceSpecChanged {SERVICE}")
    assert story.last[0].changed == {"spec.externalIPs": (None, ["203.0.113.10"])}
    story.is_in(SERVICE, "EXPOSED")


def test_a_service_that_becomes_an_external_name_is_exposed_no_more_and_may_be_again():
    story = Story()
    story.given.create(SERVICE, ADDRESS)
    story.when.write(SERVICE, {"spec.clusterIP": None, "spec.clusterIPs": None})
    story.then.recorded(f"ServiceUnexposed {SERVICE}")
    story.is_in(SERVICE, "UNEXPOSED")
    story.when.write(SERVICE, ADDRESS)
    story.then.recorded(f"ServiceExposed {SERVICE}")
    story.is_in(SERVICE, "EXPOSED")


def test_a_load_balancers_finalizer_holds_a_service_that_is_deleted():
    story = Story()
    story.given.create(SERVICE, {**ADDRESS, FINALIZERS: ["service.kubernetes.io/load-balancer-cleanup"]})
    story.when.delete(SERVICE)
    story.then.recorded(f"ServiceDeletionRequested {SERVICE}")
    story.is_in(SERVICE, "TERMINATING")
    story.when.release(SERVICE, by="cloud")
    story.then.recorded(f"ServiceRemoved {SERVICE}")
    story.silent()


def test_with_a_service_its_endpoints_go_in_the_same_request_and_its_slices_in_one_of_their_own():
    story = Story()
    story.given.create(SERVICE, ADDRESS)
    story.given.create(ENDPOINTS, SUBSETS)
    story.given.create(SLICE, {**LABEL, "endpoints": READY})
    story.when.delete(SERVICE)
    story.then.recorded(f"ServiceRemoved {SERVICE}", f"EndpointsRemoved {ENDPOINTS}")
    story.is_in(ENDPOINTS, "GONE")
    story.is_in(SLICE, "SERVING")
    story.when.refuse(ENDPOINTS, verb="delete", code=404)
    story.then.recorded(f"observed {ENDPOINTS}")
    story.when.delete(SLICE, by=GARBAGE)
    story.then.recorded(f"EndpointSliceRemoved {SLICE}")
    story.silent()


def test_the_endpoints_controller_that_was_quicker_is_an_observation_of_what_went():
    story = Story()
    story.given.create(SERVICE, ADDRESS)
    story.given.create(ENDPOINTS, SUBSETS)
    uid = story.uid(ENDPOINTS)
    story.given.delete(SERVICE)
    story.when.tell(ENDPOINTS, "delete", REMOVED, by=GARBAGE, uid=uid, after={})
    story.then.recorded(f"observed {ENDPOINTS}")
    assert story.refusals() == []


def test_the_endpoints_of_another_service_or_namespace_stay():
    story = Story()
    story.given.create(SERVICE, ADDRESS)
    for path in ("endpoints/shop/web-2", "endpoints/other/web"):
        story.given.create(path, SUBSETS)
    story.when.delete(SERVICE)
    story.then.recorded(f"ServiceRemoved {SERVICE}")


def test_endpoints_come_and_go_with_what_is_ready():
    story = Story()
    story.given.create(SLICE, {**LABEL, "endpoints": NOT_READY})
    story.when.write(SLICE, {"endpoints": READY})
    story.then.recorded(f"EndpointSliceFilled {SLICE}")
    story.is_in(SLICE, "SERVING")
    story.when.write(SLICE, {"endpoints": [*READY, {"addresses": ["10.0.0.10"]}]})
    story.then.recorded(f"EndpointSliceFilled {SLICE}")
    story.when.write(SLICE, {"endpoints": []})
    story.then.recorded(f"EndpointSliceEmptied {SLICE}")
    story.is_in(SLICE, "EMPTY")
    assert story.live(SLICE).refers == (key_of(SERVICE),)


def test_a_policys_rules_may_change_and_it_is_in_force_until_it_goes():
    story, path = Story(), "networkpolicy/shop/deny"
    story.given.create(path, {"spec.podSelector": {}})
    story.when.write(path, {"spec.ingress": [{}]}, by="alice")
    story.then.recorded(f"NetworkPolicySpecChanged {path}")
    story.is_in(path, "IN_FORCE")
    story.when.delete(path)
    story.then.recorded(f"NetworkPolicyRemoved {path}")
    story.silent()


def test_a_nodes_range_makes_it_routable_and_its_heartbeat_nothing():
    story, path = Story(), "node/one"
    story.given.create(path, {})
    story.when.status(path, {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]})
    story.then.recorded(f"NodeStatusReported {path}")
    story.is_in(path, "REGISTERED")
    story.when.write(path, {"spec.podCIDR": "10.244.1.0/24", "spec.podCIDRs": ["10.244.1.0/24"]})
    story.then.recorded(f"NodePodRangeAssigned {path}")
    story.is_in(path, "ROUTABLE")
    story.when.status(path, {})  # all else of a node's status becomes no field
    story.then.recorded(f"observed {path}")
    story.silent()


def test_a_creation_that_brings_nothing_has_no_consequence():
    story = Story()
    story.when.create("networkpolicy/shop/deny", {"spec.podSelector": {}})
    assert consequences(story.world, story.last) == []


@pytest.mark.parametrize(
    ("fields", "addresses"),
    [
        ({}, []),
        ({"spec.clusterIP": "None", "spec.clusterIPs": ["None"]}, []),
        ({"spec.clusterIP": "10.96.0.1"}, ["10.96.0.1"]),
        ({"spec.clusterIP": "10.96.0.1", "spec.clusterIPs": ["10.96.0.1", "fd00::1"]}, ["10.96.0.1", "fd00::1"]),
        ({"spec.clusterIP": 7, "spec.clusterIPs": "10.96.0.1"}, []),
    ],
)
def test_the_cluster_addresses_of_a_service_are_those_that_are_addresses(fields, addresses):
    assert cluster_addresses(fields) == addresses


def test_all_fields_of_these_kinds_can_be_written_down():
    story = Story()
    story.given.tell(SLICE, "create", MADE, by="alice", code=201, after={"endpoints": READY, "addressType": "IPv4"})
    assert json.loads(json.dumps(story.live(SLICE).fields)) == story.live(SLICE).fields
