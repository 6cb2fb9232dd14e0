"""Tells a timeline of ipsets from other files, and which files it names: those are read through it, and not for themselves.

This stands apart because `ingest` asks it of every JSON lines file, before anybody reads one. `ipset.py` is next: it reads.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

TIMELINE = re.compile(rb'\s*\{(?=.*"op"\s*:\s*")(?=.*"t"\s*:\s*")(?=.*"(?:actor|file|memory|text|seq)"\s*:)')
"""What the first entry of a timeline looks like."""


def files_named(path: str) -> set[str]:
    """The files that a timeline names, as absolute paths; empty for what is no timeline. They are read through it."""
    named: set[str] = set()
    place = Path(path)
    if not place.name.endswith(".jsonl") or not place.is_file():
        return named
    with place.open("rb") as lines:
        for count, line in enumerate(lines):
            if not count and not TIMELINE.match(line[:4096]):
                return named
            try:
                entry: Any = msgspec.json.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            file = entry.get("file") if isinstance(entry, dict) else None
            if isinstance(file, str) and "\0" not in file:
                named.add(str((place.parent / file).resolve()))
    return named
