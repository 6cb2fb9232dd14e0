"""What a resource's claims should be beside what they were last reported to be: the shape all claim projections share.

`vpc_status`, `ip_usage`, `eip_readiness` and `namespace_binding` each give one for their kind.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Standing(msgspec.Struct, kw_only=True):
    """`lawful` values follow from facts; `reported` were written last; `drift` names the fields where they differ.

    A lawful value of `None` is unknown: evidence is missing, and nothing drifts from it. `because` says for a field
    why its lawful value is what it is; `detail` holds what else the projection knows, for people.
    """

    lawful: dict[str, Any] = {}
    reported: dict[str, Any] = {}
    because: dict[str, str] = {}
    detail: dict[str, Any] = {}

    @property
    def drift(self) -> dict[str, dict[str, Any]]:
        """Field to `{"lawful": …, "reported": …}`, where both are known and differ."""
        return {
            field: {"lawful": lawful, "reported": self.reported.get(field)}
            for field, lawful in self.lawful.items()
            if lawful is not None and field in self.reported and not same(lawful, self.reported[field])
        }


def same(one: Any, other: Any) -> bool:
    """Whether two values of a claim say the same. Lists are sets here: the order in which a controller lists is its own."""
    if isinstance(one, list) and isinstance(other, list):
        return sorted(map(str, one)) == sorted(map(str, other))
    return bool(one == other)
