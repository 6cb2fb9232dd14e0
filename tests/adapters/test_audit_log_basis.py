"""What a writer had read, where its request says so: the basis of a lost update that is known and not inferred."""

from __future__ import annotations

import json

import pytest

from adapters.sources import audit_log
from domain.operations import MADE, Operation, OrderKey


def operation(verb: str, asked: object, revision_of_put: str = "") -> Operation:
    record = {
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "RequestResponse",
        "auditID": "a",
        "stage": "ResponseComplete",
        "requestURI": "/apis/kubeovn.io/v1/vpcs/shop",
        "verb": verb,
        "user": {"username": "alice"},
        "objectRef": {
            "resource": "vpcs",
            "name": "shop",
            "apiGroup": "kubeovn.io",
            "resourceVersion": revision_of_put,
        },
        "responseStatus": {"code": 200},
        "requestObject": asked,
        "responseObject": {"kind": "Vpc", "metadata": {"name": "shop", "uid": "u", "resourceVersion": "31"}},
        "requestReceivedTimestamp": "2026-11-21T01:24:03.1Z",
        "stageTimestamp": "2026-11-21T01:24:03.2Z",
    }
    return audit_log.operation(json.dumps(record).encode(), OrderKey(31, 0, 1, "x"), MADE)


@pytest.mark.parametrize(
    ("verb", "asked", "revision_of_put", "read"),
    [
        ("update", {"spec": {}}, "30", 30),
        ("update", {"spec": {}}, "", None),
        ("patch", {"metadata": {"resourceVersion": "29"}}, "", 29),
        ("patch", {"spec": {"note": "resourceVersion"}}, "", None),
        (
            "patch",
            [{"op": "test", "path": "/metadata/resourceVersion", "value": "28"}, {"op": "remove", "path": "/a"}],
            "",
            28,
        ),
        ("patch", [{"op": "replace", "path": "/metadata/resourceVersion", "value": "27"}], "", None),
        ("patch", [{"op": "test", "path": "/metadata/resourceVersion", "value": 26}], "", None),
        ("patch", ["resourceVersion"], "", None),
    ],
)
def test_the_revision_a_writer_had_read_is_known_where_its_request_says_so(verb, asked, revision_of_put, read):
    assert operation(verb, asked, revision_of_put).read_revision == read
