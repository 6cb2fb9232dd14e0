"""What the Tab key offers: kinds, rules and formats, and the names that a kept ledger knows.

A key that finds nothing says nothing. `reference.py` prints the script that a shell needs for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from adapters.views import Views


def complete_resource(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Kinds, and behind `kind/` the names that a kept ledger knows."""
    from domain.resources import KINDS, kind_called

    word, slash, _ = typed.partition("/")
    if not slash:
        return _starting(typed, [kind.name for kind in KINDS] + [kind.plural for kind in KINDS])
    try:
        known = _views_for_completion(context).names(kind_called(word).name)
    except Exception:  # a Tab key that finds nothing says nothing
        return []
    return _starting(typed, [f"{word}/{name}" for name in known])


def complete_format(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """The names of dialects."""
    from adapters.sources.dialects import READERS

    return _starting(typed, list(READERS))


def complete_kind(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """The names of kinds."""
    from domain.resources import KINDS

    return _starting(typed, [kind.name for kind in KINDS])


def complete_rule(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """Names and codes of rules."""
    from projections.findings.judge import RULES

    return _starting(typed, [rule.name for rule in RULES] + [rule.code for rule in RULES])


def complete_finding(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """The ids of the findings of the ledger."""
    try:
        return _starting(typed, [row["id"] for row in _views_for_completion(context).findings()])
    except Exception:
        return []


def complete_ipset(context: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """The names of the ledger's ipsets."""
    try:
        return _starting(typed, [name.rpartition("/")[2] for name in _views_for_completion(context).names("ipset")])
    except Exception:
        return []


def _views_for_completion(context: click.Context) -> Views:
    from adapters.views import Views

    return Views(context.params.get("ledger_path") or os.environ["NETLEDGER_LEDGER"])


def _starting(typed: str, known: Iterable[str]) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(word) for word in dict.fromkeys(known) if word.startswith(typed)]
