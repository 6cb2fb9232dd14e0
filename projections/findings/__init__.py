"""What is wrong: one module a rule, all of the shape that `rule` defines; `overdue` decides for all what too late means.

`judge` is the list of them, and joins findings of one cause.
"""
