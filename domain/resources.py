"""The kinds of resource that netledger knows, and how each is named in the API, on the command line and in tags.

Everything that has to translate between `kubectl`'s names and ours asks this table. `operations` uses it next,
to say what a record is about.
"""

from __future__ import annotations

from typing import NamedTuple

FINALIZER = "kubeovn.io/kube-ovn-controller"
"""What kube-ovn puts on every object it looks after (kube-ovn: constant KubeOVNControllerFinalizer)."""


class Key(NamedTuple):
    """Which resource: `("subnet", "", "net-db")`. `namespace` is empty for cluster-scoped kinds."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.path}" if self.name else f"{self.kind}/{self.path}*"

    @property
    def path(self) -> str:
        """`name`, or `namespace/name` where the kind is namespaced."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def tag(self) -> str:
        """`kind:name`, the mark that an event about this resource carries in the log."""
        return f"{self.kind}:{self.path}"


class Kind(NamedTuple):
    """One kind: our `name`, the API's `plural`, `group` and object `title`, and what else people call it.

    `served` says that the API server has it: a set in a node's kernel is no API object.
    """

    name: str
    plural: str
    group: str
    title: str
    namespaced: bool
    aliases: tuple[str, ...] = ()
    served: bool = True

    @property
    def api(self) -> str:
        """What `kubectl` takes without doubt: `vpcs.kubeovn.io`, `pods`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


KINDS: tuple[Kind, ...] = (
    Kind("vpc", "vpcs", "kubeovn.io", "Vpc", False),
    Kind("subnet", "subnets", "kubeovn.io", "Subnet", False),
    Kind("pod", "pods", "", "Pod", True, ("po",)),
    Kind("ip", "ips", "kubeovn.io", "IP", False),
    Kind("eip", "iptables-eips", "kubeovn.io", "IptablesEIP", False, ("eips", "iptables-eip")),
    Kind("fip", "iptables-fip-rules", "kubeovn.io", "IptablesFIPRule", False, ("fips", "iptables-fip-rule")),
    Kind("snat", "iptables-snat-rules", "kubeovn.io", "IptablesSnatRule", False, ("snats", "iptables-snat-rule")),
    Kind("dnat", "iptables-dnat-rules", "kubeovn.io", "IptablesDnatRule", False, ("dnats", "iptables-dnat-rule")),
    Kind("oeip", "ovn-eips", "kubeovn.io", "OvnEip", False, ("oeips", "ovn-eip")),
    Kind("ofip", "ovn-fips", "kubeovn.io", "OvnFip", False, ("ofips", "ovn-fip")),
    Kind("osnat", "ovn-snat-rules", "kubeovn.io", "OvnSnatRule", False, ("osnats", "ovn-snat-rule")),
    Kind("odnat", "ovn-dnat-rules", "kubeovn.io", "OvnDnatRule", False, ("odnats", "ovn-dnat-rule")),
    Kind(
        "nat-gateway",
        "vpc-nat-gateways",
        "kubeovn.io",
        "VpcNatGateway",
        False,
        ("nat-gateways", "vpc-nat-gw", "vpc-nat-gateway", "gateway"),
    ),
    Kind("namespace", "namespaces", "", "Namespace", False, ("ns",)),
    Kind("service", "services", "", "Service", True, ("svc",)),
    Kind("endpoints", "endpoints", "", "Endpoints", True, ("ep",)),
    Kind("endpointslice", "endpointslices", "discovery.k8s.io", "EndpointSlice", True),
    Kind("networkpolicy", "networkpolicies", "networking.k8s.io", "NetworkPolicy", True, ("netpol",)),
    Kind("node", "nodes", "", "Node", False, ("no",)),
    Kind("ipset", "ipsets", "", "IPSet", True, served=False),  # its namespace is the node that it lies on
)

BY_NAME = {kind.name: kind for kind in KINDS}
BY_RESOURCE = {(kind.group, kind.plural): kind for kind in KINDS if kind.served}
BY_TITLE = {(kind.group, kind.title): kind for kind in KINDS if kind.served}
_BY_ALIAS = {
    alias.lower(): kind for kind in KINDS for alias in (kind.name, kind.plural, kind.title, kind.api, *kind.aliases)
}


def kind_called(word: str) -> Kind:
    """The kind that `word` names: our name, plural, singular, short name or API name, in any case.

    Raises `KeyError` with a sentence that lists the kinds.
    """
    try:
        return _BY_ALIAS[word.lower()]
    except KeyError:
        known = ", ".join(kind.name for kind in KINDS)
        raise KeyError(f"there is no kind called {word!r}; the kinds are {known}") from None
