"""What the log adds up to is what the cluster held: every live object of the world against `final.yaml`.

The objects were read from the API server when a recording ended, so this checks order and fold at once: a write in the
wrong place leaves an old field, a removal in the wrong place an object too many.
"""

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from domain.resources import KINDS, Key
from domain.world import Resource
from tests.replaying import DATA, Replayed, lines_of, replayed

RECORDINGS = sorted(path.parent.name for path in DATA.glob("*/final.yaml.gz"))

# Kinds that were not asked for when the objects were read; what lives of them cannot be compared.
NOT_READ = {
    "mixed-seed7": {"nat-gateway", "endpoints", "endpointslice"},
    "mixed-small": {"node", "service"},
    "s2-buggy-A": {"namespace"},
    "s2-control-order": {"namespace"},
    "s3-buggy": {"namespace"},
    "s3-control-order": {"namespace"},
    "quirks-batchlog": {"namespace", "pod", "service"},
    "quirks-managedfields-webhook": {"namespace", "pod", "service"},
    "quirks-truncate": {"namespace", "pod", "service"},
}

# The API server makes these before it begins to log; a log that never writes one of them says nothing of it.
MADE_BY_THE_SERVER = {
    *(Key("namespace", "", name) for name in ("default", "kube-node-lease", "kube-public", "kube-system")),
    Key("service", "default", "kubernetes"),
}

# Its create was logged without bodies, because they were too large: that it is there is all that is known.
CUT_OFF = {"quirks-truncate": {Key("vpc", "", "big")}}

BY_TITLE = {kind.title: kind for kind in KINDS}
OF_A_POD = {"nodeName", "hostNetwork", "phase", "podIP", "podIPs"}
BESIDE_SPEC_AND_STATUS = {"endpoints": ("subsets",), "endpointslice": ("addressType", "endpoints", "ports")}


class _PlainText(yaml.CSafeLoader):
    """YAML as the API server means it: a time is text."""


_PlainText.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def objects_at_the_end(name: str) -> dict[Key, dict[str, Any]]:
    """The objects of our kinds in `final.yaml`."""
    text = gzip.decompress((DATA / name / "final.yaml.gz").read_bytes())
    found = {}
    for item in (yaml.load(text, Loader=_PlainText) or {}).get("items") or ():
        kind = BY_TITLE.get(item["kind"])
        if kind is not None:
            metadata = item["metadata"]
            found[Key(kind.name, metadata.get("namespace", "") if kind.namespaced else "", metadata["name"])] = item
    return found


def claims_and_facts(kind: str, item: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What the world keeps of an object, by the paths it uses. Written again here, so that it checks the reader too."""
    metadata = item["metadata"]
    for path in ("finalizers", "deletionTimestamp"):
        if metadata.get(path):
            yield f"metadata.{path}", metadata[path]
    for part in ("labels", "annotations"):
        for name, value in (metadata.get(part) or {}).items():
            if name != "kubectl.kubernetes.io/last-applied-configuration":
                yield f"metadata.{part}[{name}]", value
    for part in ("spec", "status"):
        for name, value in (item.get(part) or {}).items():
            if value is not None and (kind != "pod" or name in OF_A_POD):
                yield f"{part}.{name}", value
    for name in BESIDE_SPEC_AND_STATUS.get(kind, ()):
        if item.get(name) is not None:
            yield name, item[name]


def fields_of(resource: Resource) -> dict[str, Any]:
    """What the world keeps of it, but for its owners, which `claims_and_facts` leaves out."""
    return {path: value for path, value in resource.fields.items() if path != "metadata.ownerReferences"}


def was_deleted_with_its_collection(run: Replayed, resource: Resource) -> bool:
    """Whether its deletion was answered with a list of what was there before: no revision, no time of its own."""
    return bool(
        resource.deletion_at
        and run.events[resource.deletion_at - 1].operation == f"deletecollection {resource.key.kind}s"
    )


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_same_objects_live_at_the_end_as_in_the_cluster(name):
    there = set(objects_at_the_end(name))
    live = {key for key in replayed(name).judged.reading.world.live if key.kind not in NOT_READ.get(name, ())}
    assert live - there == set()
    assert there - live <= MADE_BY_THE_SERVER
    assert not (there - live) & namespaces_written(name)


def namespaces_written(name: str) -> set[Key]:
    """The namespaces that a request of the log wrote, or tried to."""
    found = set()
    for line in lines_of(name):
        if b'"resource":"namespaces"' in line:
            record = json.loads(line)
            if record["verb"] in ("create", "update", "patch", "delete"):
                found.add(Key("namespace", "", record["objectRef"].get("name", "")))
    return found


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_live_object_has_its_uid_and_revision(name):
    run = replayed(name)
    for key, resource, item in compared(name):
        assert resource.uid == item["metadata"]["uid"], key
        if not was_deleted_with_its_collection(run, resource):
            assert str(resource.revision) == item["metadata"]["resourceVersion"], key


@pytest.mark.parametrize("name", RECORDINGS)
def test_every_live_object_has_the_fields_it_had_in_the_cluster(name):
    run = replayed(name)
    for key, resource, item in compared(name):
        wanted = dict(claims_and_facts(key.kind, item))
        had = fields_of(resource)
        if was_deleted_with_its_collection(run, resource):
            # That it is in deletion is known; its grace period is not, so the time is the request's.
            assert wanted.pop("metadata.deletionTimestamp") >= had.pop("metadata.deletionTimestamp"), key
        assert had == wanted, key


def compared(name: str) -> Iterator[tuple[Key, Resource, dict[str, Any]]]:
    live = replayed(name).judged.reading.world.live
    for key, item in objects_at_the_end(name).items():
        if key in live and key not in CUT_OFF.get(name, ()):
            yield key, live[key], item


def test_an_object_whose_create_was_cut_off_is_there_and_known_to_be_unknown():
    world = replayed("quirks-truncate").judged.reading.world
    for key in CUT_OFF["quirks-truncate"]:
        assert world.live[key].blurred
        assert key in objects_at_the_end("quirks-truncate")
