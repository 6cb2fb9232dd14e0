"""The texts of ipset and nft, and nothing around them: `ipset save`, `ipset list`, `ipset restore` input, `nft -j list`.

Each parser gives what it understood, and every line that it did not with the reason. A restore is played through, with
its temporary sets and swaps, to what it comes to for each set. `ipset` is next: it finds these texts in files.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import IPv6Address
from typing import Any, NamedTuple

import msgspec

from domain.ipset import Effect, canonical_options, meaning_of_temporary
from domain.ipset_names import is_temporary
from domain.ipset_writes import NFT


class Bad(NamedTuple):
    """A line that cannot be used: its number from 1, its text, and why."""

    line: int
    text: str
    reason: str


class Entry(NamedTuple):
    """One member of a set as a text has it; `notes` is what stands behind it (timeout, comment, counters)."""

    member: str
    notes: str = ""


class Listed(msgspec.Struct):
    """One set as a dump shows it; members in the order of the text."""

    name: str
    type: str
    options: str
    entries: list[Entry] = []

    @property
    def members(self) -> list[str]:
        """Its members, each once, sorted."""
        return sorted({entry.member for entry in self.entries})

    @property
    def effect(self) -> Effect:
        """What the dump shows of it, for the domain."""
        return Effect(self.type, self.options, tuple(self.members))


TYPE = re.compile(r"(?:hash|bitmap|list):[a-z,]+")
_ALIASES = {
    "-N": "create",
    "--create": "create",
    "n": "create",
    "new": "create",
    "-A": "add",
    "--add": "add",
    "-D": "del",
    "--del": "del",
    "-F": "flush",
    "--flush": "flush",
    "-X": "destroy",
    "--destroy": "destroy",
    "x": "destroy",
    "-W": "swap",
    "--swap": "swap",
    "-E": "rename",
    "--rename": "rename",
}
_QUIET = frozenset({"-exist", "--exist", "-!", "-quiet", "-q"})


def words_of(line: str) -> list[str]:
    """A line's words: the command spelled out, quoted comments whole, flags that change no meaning left out.

    Raises `ValueError` for a quote that does not end.
    """
    words = line.split() if '"' not in line else shlex.split(line)
    if " -" in line or line.startswith("-"):
        words = [word for word in words if word not in _QUIET]
    if words and words[0] in _ALIASES:
        words[0] = _ALIASES[words[0]]
    return words


def member(text: str) -> str:
    """A member as the kernel writes it: host addresses without their prefix length, IPv6 short, tcp before bare ports."""
    if "," not in text and ":" not in text:
        return text.removesuffix("/32")  # by far the most are plain IPv4
    parts = []
    for number, part in enumerate(text.split(",")):
        if ":" in part and not part.startswith(("tcp:", "udp:", "sctp:", "udplite:", "icmp:", "icmpv6:")):
            address, slash, length = part.partition("/")
            with suppress(ValueError):  # a MAC address, or another protocol's name
                part = f"{IPv6Address(address).compressed}{slash}{length}".removesuffix("/128")
        elif number and part.isdecimal():
            part = f"tcp:{part}"
        else:
            part = part.removesuffix("/32")
        parts.append(part)
    return ",".join(parts)


def entry(words: list[str]) -> Entry:
    """A member and what stands behind it. What excludes (`nomatch`) is another member than what includes."""
    if len(words) == 1:
        return Entry(member(words[0]))
    rest = [word for word in words[1:] if word != "nomatch"]
    excludes = " nomatch" if len(rest) < len(words) - 1 else ""
    return Entry(member(words[0]) + excludes, " ".join(rest))


def parse_save(text: str) -> tuple[list[Listed], list[Bad]]:
    """What `ipset save` printed."""
    sets: dict[str, Listed] = {}
    bad = []
    for number, line, words in _lines(text):
        if isinstance(words, str):
            bad.append(Bad(number, line, words))
        elif words[0] == "create" and len(words) >= 3 and TYPE.fullmatch(words[2]):
            sets.setdefault(words[1], Listed(words[1], words[2], canonical_options(words[2], words[3:])))
        elif words[0] == "add" and len(words) >= 3:
            if words[1] in sets:
                sets[words[1]].entries.append(entry(words[2:]))
            else:
                bad.append(Bad(number, line, f"it adds to {words[1]}, which no line before creates"))
        else:
            bad.append(Bad(number, line, "it is no line of ipset save: create NAME TYPE ..., or add NAME MEMBER"))
    return list(sets.values()), bad


def _lines(text: str) -> Iterator[tuple[int, str, list[str] | str]]:
    """The lines that say something, as words; a text in their place says why there are none."""
    for number, line in enumerate(text.splitlines(), 1):
        said = line.strip()
        if not said or said.startswith("#"):
            continue
        try:
            yield number, line, words_of(said) or "it holds flags and no command"
        except ValueError as error:
            yield number, line, f"its words cannot be told apart: {error}"


_HEADING = re.compile(r"(Name|Type|Revision|Header|Size in memory|References|Number of entries|Members|Default): ?(.*)")


def parse_list(text: str) -> tuple[list[Listed], list[Bad]]:
    """What `ipset list` printed: blocks of headings, with one member a line behind `Members:`."""
    sets: list[Listed] = []
    bad: list[Bad] = []
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        said = line.strip()
        heading = _HEADING.fullmatch(said)
        if not said or said.startswith("#"):
            continue
        if heading is not None and (not inside or heading[1] == "Name"):
            name, value = heading.groups()
            if name == "Name":
                inside = False
                sets.append(Listed(value, "", ""))
            elif not sets:
                bad.append(Bad(number, line, "it belongs to no set: no Name: line comes before it"))
            elif name == "Type":
                sets[-1].type = value
            elif name == "Header":
                sets[-1].options = canonical_options(sets[-1].type, value.split())
            elif name == "Members":
                inside = True
        elif inside:
            try:
                sets[-1].entries.append(entry(words_of(said)))
            except (ValueError, IndexError) as error:
                bad.append(Bad(number, line, f"its words cannot be told apart: {error}"))
        else:
            bad.append(Bad(number, line, "it is no line of ipset list"))
    untyped = [known.name for known in sets if not TYPE.fullmatch(known.type)]
    bad += [Bad(1, name, f"set {name} has no type that is known") for name in untyped]
    return [known for known in sets if known.name not in untyped], bad


# ---- restore


class _Content(msgspec.Struct):
    """What a name stands for while a restore is played: the set that was called `origin` before, and what was done to it."""

    origin: str
    type: str = ""
    options: str = ""
    whole: bool = False  # nothing of what was in it before is left
    made: bool = False
    gone: bool = False
    added: dict[str, None] = {}
    removed: dict[str, None] = {}

    def add(self, member: str) -> None:
        self.removed.pop(member, None)
        self.added[member] = None

    def drop(self, member: str) -> None:
        self.added.pop(member, None)
        if not self.whole:
            self.removed[member] = None

    def flush(self) -> None:
        self.whole, self.added, self.removed = True, {}, {}


def parse_restore(text: str) -> tuple[dict[str, Effect], list[Bad]]:
    """What the input of `ipset restore` comes to, by the names of sets: as if all of it was done.

    Of a temporary set whose making the text does not show, `TMP-…` tells type and options (dossier 4.2). One that the
    text leaves behind is among the effects: the restore did not come to its end.
    """
    sets: dict[str, _Content] = {}
    bad = []
    for number, line, words in _lines(text):
        reason = words if isinstance(words, str) else _play(sets, words)
        if reason:
            bad.append(Bad(number, line, reason))
    effects: dict[str, Effect] = {}
    for name, content in sorted(sets.items()):
        effect = _effect(name, content)
        if effect is not None:
            effects[name] = effect
    return effects, bad


def _play(sets: dict[str, _Content], words: list[str]) -> str:
    """Do one command; the reason why it cannot be done, else nothing."""
    command, names = words[0], words[1:]
    if command in ("COMMIT", "quit", "list", "save"):
        return ""
    needed = {"create": 2, "add": 2, "del": 2, "flush": 1, "destroy": 1, "swap": 2, "rename": 2}.get(command)
    if needed is None:
        return "it is no command of ipset restore"
    if len(names) < needed:
        return f"{command} needs {needed} words behind it"
    content = sets.setdefault(names[0], _Content(names[0]))
    if command == "create":
        if not TYPE.fullmatch(names[1]):
            return f"{names[1]!r} is no type of set"
        if content.gone:
            content = sets[names[0]] = _Content(names[0], whole=True)
        if not content.type:
            content.type, content.options = names[1], canonical_options(names[1], names[2:])
            content.made = True
    elif command == "add":
        content.add(entry(names[1:]).member)
    elif command == "del":
        content.drop(entry(names[1:]).member)
    elif command == "flush":
        content.flush()
    elif command == "destroy":
        sets[names[0]] = _Content(names[0], gone=True)
    else:
        other = sets.setdefault(names[1], _Content(names[1]))
        for moved in (content, other):
            if moved.made and not moved.removed:
                moved.whole = True  # made by this text to be moved: nothing else is in it (Kube-OVN flushes none)
        sets[names[1]] = content
        sets[names[0]] = other if command == "swap" else _Content(names[0], gone=True)
    return ""


def _effect(name: str, content: _Content) -> Effect | None:
    if content.gone:
        return Effect(gone=True)
    type, options = content.type, content.options
    if not type and is_temporary(content.origin):
        type, options = meaning_of_temporary(content.origin)
    if content.whole:
        return Effect(type, options, tuple(sorted(content.added)), made=content.made)
    if content.origin != name:
        return Effect(type, options)  # it now holds what another set held before, and nobody knows what that was
    if content.made or content.added or content.removed:
        return Effect(type, options, None, tuple(sorted(content.added)), tuple(sorted(content.removed)), content.made)
    return None


# ---- nftables


def parse_nft(text: str | bytes) -> tuple[list[Listed], list[Bad]]:
    """The sets in what `nft -j list sets` or `nft -j list ruleset` printed, named `nft:FAMILY:TABLE:NAME`."""
    try:
        document = msgspec.json.decode(text)
        items = document["nftables"]
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError) as error:
        return [], [Bad(1, "", f"it is no JSON of nft: {error}")]
    sets: list[Listed] = []
    bad: list[Bad] = []
    for item in items if isinstance(items, list) else ():
        found = item.get("set") if isinstance(item, dict) else None
        if not isinstance(found, dict):
            continue
        try:
            name = f"{NFT}{found['family']}:{found['table']}:{found['name']}"
            kind = found["type"]
            type = " . ".join(map(str, kind)) if isinstance(kind, list) else str(kind)
            flags = found.get("flags", ())
            options = [*sorted([flags] if isinstance(flags, str) else map(str, flags))]
            options += [f"{option} {found[option]}" for option in ("timeout", "size") if option in found]
            listed = Listed(name, type, " ".join(options))
            listed.entries = [_nft_entry(element) for element in found.get("elem", ())]
        except (KeyError, TypeError, ValueError) as error:
            bad.append(Bad(1, str(found)[:200], f"a set that cannot be read: {error!r}"))
            continue
        sets.append(listed)
    return sets, bad


def _nft_entry(element: Any) -> Entry:
    if isinstance(element, dict) and "elem" in element:
        inner = element["elem"]
        notes = " ".join(f"{name} {inner[name]}" for name in ("timeout", "expires", "comment") if name in inner)
        return Entry(_nft_value(inner["val"]), notes)
    return Entry(_nft_value(element))


def _nft_value(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    if "prefix" in value:
        return f"{value['prefix']['addr']}/{value['prefix']['len']}"
    if "range" in value:
        return "-".join(_nft_value(end) for end in value["range"])
    if "concat" in value:
        return ",".join(_nft_value(part) for part in value["concat"])
    raise ValueError(f"an element of unknown form: {', '.join(value)}")


# ---- writing


def restore_text(name: str, temporary: str, type: str, options: str, members: Iterable[str]) -> list[str]:
    """An `ipset restore` input that sets exactly these members at once: fill a temporary set, swap, destroy."""
    header = f"{type} {options}".rstrip()
    excluded = [one.removesuffix(" nomatch") for one in members if one.endswith(" nomatch")]
    included = [one for one in members if not one.endswith(" nomatch")]
    return [
        f"create {name} {header} -exist",
        f"create {temporary} {header} -exist",
        f"flush {temporary}",
        *(f"add {temporary} {one} -exist" for one in sorted(included)),
        *(f"add {temporary} {one} nomatch -exist" for one in sorted(excluded)),
        f"swap {temporary} {name}",
        f"destroy {temporary}",
    ]
