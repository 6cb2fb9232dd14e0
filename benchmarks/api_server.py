"""What a real API server decides about an object: its uid, revisions, generation, and when it is gone.

`cluster` asks for operations here; each is carried out on the object, which is a plain dictionary, and handed
with its answer to `audit_log`. Deletion follows the recordings: a finalizer only marks an object; the request
that takes off the last one removes it and is answered under the revision from before; and the removal uses up
a revision that no line shows.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from benchmarks.audit_log import Actor, AuditLog, Json


class Kind(NamedTuple):
    plural: str
    group: str
    namespaced: bool = False


KINDS: Final = {
    "Vpc": Kind("vpcs", "kubeovn.io"),
    "Subnet": Kind("subnets", "kubeovn.io"),
    "IP": Kind("ips", "kubeovn.io"),
    "VpcNatGateway": Kind("vpc-nat-gateways", "kubeovn.io"),
    "IptablesEIP": Kind("iptables-eips", "kubeovn.io"),
    "IptablesFIPRule": Kind("iptables-fip-rules", "kubeovn.io"),
    "Pod": Kind("pods", "", namespaced=True),
    "Namespace": Kind("namespaces", ""),
}


class ApiServer:
    """Answers requests, one at a time, and logs them."""

    def __init__(self, log: AuditLog) -> None:
        self.log = log
        self.revision = 300

    def next_revision(self) -> str:
        """Takes the next number of etcd's one counter."""
        self.revision += 1
        return str(self.revision)

    def create(
        self, actor: Actor, kind: str, name: str, spec: Json, metadata: Json | None = None, query: str = ""
    ) -> Json:
        """A custom resource is made. `metadata` may bring labels and annotations."""
        self.log.begin()
        metadata = metadata or {}
        body = {
            "apiVersion": "kubeovn.io/v1",
            "kind": kind,
            "metadata": {**metadata, "name": name},
            "spec": spec,
        }
        stored = {
            **metadata,
            "creationTimestamp": self.log.time(),
            "generation": 1,
            "name": name,
            "resourceVersion": self.next_revision(),
            "uid": self.log.uid(),
        }
        custom = {**body, "metadata": dict(sorted(stored.items()))}
        self.answer(actor, "create", custom, request=body, query=query)
        return custom

    def patch(
        self,
        actor: Actor,
        object_: Json,
        body: object,
        *,
        metadata: Json | None = None,
        spec: Json | None = None,
        query: str = "",
    ) -> None:
        """`body` was sent; `metadata` and `spec` are what it changes."""
        self.log.begin()
        if spec:
            object_["spec"] = {**object_["spec"], **spec}
            object_["metadata"]["generation"] += 1
        if metadata:
            self._set(object_, metadata)
        if "deletionTimestamp" in object_["metadata"] and not object_["metadata"].get("finalizers"):
            self.revision += 1  # the deletion's own revision shows in a watch only
        else:
            object_["metadata"]["resourceVersion"] = self.next_revision()
        self.answer(actor, "patch", object_, request=body, query=query)

    def patch_status(self, actor: Actor, object_: Json, status: Json) -> None:
        """The whole status is sent; if it says nothing new, the revision stays."""
        self.log.begin()
        merged = {**object_.get("status", {}), **status}
        merged = {key: value for key, value in sorted(merged.items()) if value is not None}
        if merged != object_.get("status"):
            object_["status"] = merged
            object_["metadata"]["resourceVersion"] = self.next_revision()
        self.answer(actor, "patch", object_, subresource="status", request={"status": status})

    def update(self, actor: Actor, object_: Json, *, metadata: Json | None = None, spec: Json | None = None) -> None:
        """The whole object is read, changed and put back, as of the revision it was read at."""
        self.log.begin()
        read = object_["metadata"]["resourceVersion"]
        self._set(object_, metadata or {})
        object_["spec"] = dict(sorted({**object_["spec"], **(spec or {})}.items()))
        body = {**object_, "metadata": dict(object_["metadata"])}
        if spec:
            object_["metadata"]["generation"] += 1
        if "deletionTimestamp" in object_["metadata"] and not object_["metadata"].get("finalizers"):
            self.revision += 1
        else:
            object_["metadata"]["resourceVersion"] = self.next_revision()
        self.answer(actor, "update", object_, request=body, read=read)

    def delete(self, actor: Actor, object_: Json, options: Json | None) -> None:
        """With a finalizer the object is only marked; without one it is gone and a Status is the answer."""
        self.log.begin()
        metadata = object_["metadata"]
        if metadata.get("finalizers"):
            changes = {"deletionGracePeriodSeconds": 0, "deletionTimestamp": self.log.time()}
            self._set(object_, {**changes, "generation": metadata["generation"] + 1})
            metadata = object_["metadata"]
            metadata["resourceVersion"] = self.next_revision()
            self.answer(actor, "delete", object_, request=options)
            return
        self.revision += 1
        kind = KINDS[object_["kind"]]
        details = {
            "name": metadata["name"],
            "group": kind.group,
            "kind": kind.plural,
            "uid": metadata["uid"],
        }
        success = {"metadata": {}, "status": "Success", "details": details}
        self.answer(
            actor,
            "delete",
            object_,
            request=options,
            status={**success, "code": 200},
            response={"kind": "Status", "apiVersion": "v1", **success},
        )

    def answer(
        self,
        actor: Actor,
        verb: str,
        object_: Json,
        *,
        subresource: str = "",
        request: object = None,
        response: Json | None = None,
        status: Json | None = None,
        read: str = "",
        query: str = "",
        long_running: bool = False,
    ) -> Json:
        """Logs a request on `object_` that has been carried out, and returns its last event.

        It is answered with the object unless there is another `response`. `read` is the revision that a PUT
        says it is based on.
        """
        kind = KINDS[object_["kind"]]
        metadata = object_["metadata"]
        name = metadata["name"]
        created = verb == "create" and not subresource
        reference: Json = {"resource": kind.plural}
        if kind.namespaced:
            reference["namespace"] = metadata["namespace"]
        elif kind.plural == "namespaces" and not created:
            reference["namespace"] = name
        reference["name"] = name
        if read:
            reference["uid"] = metadata["uid"]
        if kind.group:
            reference["apiGroup"] = kind.group
        reference["apiVersion"] = "v1"
        if read:
            reference["resourceVersion"] = read
        if subresource:
            reference["subresource"] = subresource
        uri = f"/apis/{kind.group}/v1" if kind.group else "/api/v1"
        if kind.namespaced:
            uri += f"/namespaces/{metadata['namespace']}"
        uri += f"/{kind.plural}"
        if not created:
            uri += f"/{name}"
        if subresource:
            uri += f"/{subresource}"
        return self.log.request(
            actor,
            verb,
            uri + query,
            reference,
            status=status or {"metadata": {}, "code": 201 if created else 200},
            request=request,
            response=None if long_running else response or object_,
            long_running=long_running,
        )

    @staticmethod
    def _set(object_: Json, changes: Json) -> None:
        """Custom resources come back with their keys sorted; `None` takes a key away."""
        merged = {**object_["metadata"], **changes}
        object_["metadata"] = {key: value for key, value in sorted(merged.items()) if value is not None}
