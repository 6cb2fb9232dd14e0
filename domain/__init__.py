"""The rules: what the resources are, what may happen to them, and what a history of events adds up to.

Nothing here reads a file, a clock or a store. A reader who follows one line starts at `operations`
(what a record says somebody did), goes on to `decide` (which event that is, or why it is refused),
and ends at `world` (what all events add up to). The tables to review are one a kind: `vpc`, `subnet`,
`pod`, `ip`, `eip`, `fip`, `snat`, `dnat`, `ovn_eip`, `ovn_rule`, `nat_gateway`, `namespace`,
all of the shape that `lifecycle` defines.
"""
