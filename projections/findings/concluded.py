"""What the rules concluded of one log: what another finding tells of is left out, and what has one cause is joined.

What is wrong now is told anew each time. What is over is kept (`kept`), and looked at again only where something moved on
the resources that it is joined with by what follows from what. So to conclude costs what changed and what is open, not
what ever was; and what comes out is what concluding once, at the end, gives. `judge` holds the rules, and asks for one of
these.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, overload

from domain.resources import Key
from projections.findings.illegal_transition import IllegalTransition
from projections.findings.kept import Entry, Kept, Moved
from projections.findings.leaked_ip import LeakedIP
from projections.findings.namespace_not_bound import NamespaceNotBound
from projections.findings.rule import Conclusion, Finding, Rule, Witness

SORTED_ANEW: Final = 1_000
"""From how many new ones on all are sorted again; fewer are put in their place one by one."""


class Findings(Sequence[Finding]):
    """The findings at one moment: those that are not over, and then those that are, packed until they are looked at."""

    def __init__(
        self,
        now: list[Finding],
        over: Sequence[Entry],
        fresh: Sequence[Entry],
        gone: Sequence[str],
        by_key: Mapping[Key, Sequence[Entry]],
    ) -> None:
        self.now = now
        self.over = over
        """By when they began."""
        self._by_key = by_key
        self.fresh = fresh
        """Those of them that have no document: they are new, or not what they were when one was made."""
        self.gone = gone
        """The ids of those that were told of as over when it was asked last, and are not now."""

    def __len__(self) -> int:
        return len(self.now) + len(self.over)

    @overload
    def __getitem__(self, place: int) -> Finding: ...
    @overload
    def __getitem__(self, place: slice) -> list[Finding]: ...
    def __getitem__(self, place: int | slice) -> Finding | list[Finding]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        return self.now[place] if place < len(self.now) else self.over[place - len(self.now)].finding()

    def __iter__(self) -> Iterator[Finding]:
        yield from self.now
        for entry in self.over:
            yield entry.finding()

    def on(self, key: Key) -> list[Finding]:
        """Those on one resource, as long as nothing else was concluded."""
        over = sorted(self._by_key.get(key, ()), key=_place)
        return [finding for finding in self.now if finding.key == key] + [entry.finding() for entry in over]

    def called(self, id: str) -> Finding | None:
        """The one with that id."""
        for finding in self.now:
            if finding.id == id:
                return finding
        return next((entry.finding() for entry in self.over if entry.id == id), None)


class _Open(NamedTuple):
    """What is not over: of which rule, and as the how many-th."""

    order: int
    number: int
    finding: Finding

    @property
    def signature(self) -> tuple[Any, ...]:
        """What others may come to be joined with it by."""
        one = self.finding
        blocked = tuple(one.witnesses) if one.rule == NamespaceNotBound.code else ()
        return self.order, one.id, one.key, one.since, one.follows, blocked


class _Joined(NamedTuple):
    """What joining brought to those that are open among resources that belong together."""

    signature: tuple[Any, ...]
    keys: frozenset[Key]
    roots: list[tuple[str | None, list[Witness]]]


class Concluded:
    """What was concluded of one log so far."""

    def __init__(self, before: Concluded | None = None, upto: int = 0) -> None:
        """With what was concluded `before` of a log that is the same up to a place, what ended by then is taken over."""
        while before is not None and not before._kept:  # that one was never asked
            upto, before = min(upto, before._upto), before._before
        if before is not None and before._is_half:
            before = None
        self._is_half: bool = False  # whether bringing it up was given up on the way
        self._before: Concluded | None = before
        self._upto: int = upto
        self._kept: list[Kept] = []
        self._refusals: dict[int, Entry] = {}  # those that are over, by their numbers
        self._over: list[Entry] = []
        self._undocumented: dict[Entry, None] = {}
        self._by_key: dict[Key, list[Entry]] = {}
        self._followers: dict[Key, list[Entry]] = {}
        # What the findings that are over tell of, so that a refusal need not be told of as well.
        self._refused: set[int] = set()
        self._cited: Counter[int] = Counter()
        self._addresses: Counter[tuple[Key, str]] = Counter()
        self._leaked: Counter[Key] = Counter()
        # Resources that are joined by what follows from what, and those of them where something moved.
        self._belongs: dict[Key, Key] = {}
        self._moved: set[Key] = set()
        self._joined: dict[Key, _Joined] = {}

    def bring_up(self, rules: Sequence[Rule], conclusion: Conclusion) -> Findings:
        """Bring it up to what the rules remember now. The last of them is on refusals, of which the others may tell.

        Where an event cannot be read, all of it is concluded anew the next time, and none is said to be gone.
        """
        if self._is_half:
            self.__init__()  # type: ignore[misc]
        self._is_half = True
        findings = self._bring_up(rules, conclusion)
        self._is_half = False
        return findings

    def _bring_up(self, rules: Sequence[Rule], conclusion: Conclusion) -> Findings:
        *others, illegal = rules
        assert isinstance(illegal, IllegalTransition)
        before, self._before = self._before, None
        while len(self._kept) < len(others):
            known = before._kept[len(self._kept)] if before is not None else None
            self._kept.append(Kept(len(self._kept), known, self._upto))
        self._refused.update(illegal.places(len(self._refused)))
        new: dict[Entry, None] = {}
        gone: list[Entry] = []
        now: list[_Open] = []

        def move(moved: Moved) -> None:
            for entry in moved.gone:
                self._forget(entry)
                gone.append(entry)
            for entry in moved.fresh:
                self._know(entry)
                new[entry] = None

        for order, (rule, kept) in enumerate(zip(others, self._kept, strict=True)):
            move(kept.moved(rule, conclusion))
            now += [_Open(order, number, one) for number, one in enumerate(rule.conclude(conclusion, kept))]
        refused, moved = self._untold(illegal, conclusion, now, before._refusals if before is not None else {})
        move(moved)
        now += [_Open(len(others), number, one) for number, one in enumerate(refused)]
        changed = self._join(now)
        self._sort(list(new), gone)
        ids = [entry.id for entry in gone if all(entry.id != other.id for other in self._by_key.get(entry.key, ()))]
        if before is not None:
            told = {entry.id for entry in self._over}
            ids += [entry.id for entry in before._over if entry.id not in told]
        fresh = {**self._undocumented, **new, **dict.fromkeys(changed)}
        for entry in gone:
            fresh.pop(entry, None)
        self._undocumented = {entry: None for entry in fresh if entry.document is None}
        return Findings([one.finding for one in now], self._over, list(self._undocumented), ids, self._by_key)

    def _untold(
        self, illegal: IllegalTransition, conclusion: Conclusion, now: Sequence[_Open], before: dict[int, Entry]
    ) -> tuple[list[Finding], Moved]:
        """The refusals that no other finding tells of: those that are still so, and what moved of those that are not.

        Another tells of one if it cites it, or is about that address, or if it is a leak from the subnet it was put into.
        """
        cited = {witness.at for one in now for witness in one.finding.witnesses} & self._refused
        addresses = {(one.finding.key, one.finding.uid) for one in now if one.finding.key.kind == "ip"}
        leaked = {
            key for one in now if one.finding.rule == LeakedIP.code for key in (one.finding.key, one.finding.follows)
        }
        still: list[Finding] = []
        fresh: list[Entry] = []
        known, self._refusals = self._refusals, {}
        for told in illegal.refusals(conclusion):
            at, key, uid = told.refusal.at, told.refusal.key, told.refusal.uid
            if at in cited or at in self._cited or key in leaked or key in self._leaked:
                continue
            if key.kind == "ip" and ((key, uid) in addresses or (key, uid) in self._addresses):
                continue
            if told.still:
                still.append(illegal.tell(conclusion, told))
                continue
            entry = known.get(told.number)
            if entry is None or entry.occurrence != told.occurrence:
                entry = before.get(told.number)
                if entry is None or entry.occurrence != told.occurrence or at > self._upto:
                    entry = Entry(illegal.tell(conclusion, told), len(self._kept), told.number)
                fresh.append(entry)
            self._refusals[told.number] = entry
        gone = [entry for number, entry in known.items() if self._refusals.get(number) is not entry]
        return still, Moved(fresh, gone)

    # ---- what is over, by what is asked of it

    def _know(self, entry: Entry) -> None:
        self._by_key.setdefault(entry.key, []).append(entry)
        self._moved.add(entry.key)
        if entry.follows is not None:
            self._followers.setdefault(entry.follows, []).append(entry)
            self._belong(entry.key, entry.follows)
        self._count(entry, 1)

    def _forget(self, entry: Entry) -> None:
        _take_out(self._by_key, entry.key, entry)
        self._moved.add(entry.key)
        if entry.follows is not None:
            _take_out(self._followers, entry.follows, entry)
            self._moved.add(entry.follows)
        self._count(entry, -1)

    def _count(self, entry: Entry, by: int) -> None:
        if entry.order == len(self._kept):
            return  # a refusal itself
        if entry.tells_of is None:
            cited = {witness.at for witness in entry.alone().witnesses} if self._refused else set()
            entry.tells_of = tuple(cited & self._refused)
        counted: list[tuple[Counter[Any], Any]] = [(self._cited, at) for at in entry.tells_of]
        if entry.key.kind == "ip":
            counted.append((self._addresses, (entry.key, entry.uid)))
        if entry.rule == LeakedIP.code:
            counted += [(self._leaked, key) for key in {entry.key, entry.follows}]
        for counter, what in counted:
            counter[what] += by
            if not counter[what]:
                del counter[what]

    def _sort(self, new: list[Entry], gone: Sequence[Entry]) -> None:
        """Keep them by when they began. Who holds the list of before keeps it as it was."""
        if gone:
            left_out = set(gone)
            self._over = [entry for entry in self._over if entry not in left_out]
        elif new:
            self._over = list(self._over)
        if len(new) < SORTED_ANEW:
            for entry in new:
                insort(self._over, entry, key=_place)
        else:
            self._over += new
            self._over.sort(key=_place)

    # ---- what has one cause

    def _belong(self, key: Key, other: Key) -> None:
        """These two are joined from now on: what is found on one may be the root of what is found on the other."""
        belongs = self._belongs
        one, two = self._group(belongs.setdefault(key, key)), self._group(belongs.setdefault(other, other))
        if one != two:
            belongs[one] = two
            self._moved.update((key, other))

    def _group(self, key: Key) -> Key:
        belongs = self._belongs
        while belongs[key] != key:
            key = belongs[key] = belongs[belongs[key]]
        return key

    def _join(self, now: Sequence[_Open]) -> list[Entry]:
        """Give the findings of one cause their root; gives those that are over and that this changes."""
        for one in now:
            key, follows = one.finding.key, one.finding.follows
            if follows is not None:
                self._belong(key, follows)
        groups: dict[Key, list[_Open]] = {}
        for one in now:
            if one.finding.key in self._belongs:
                groups.setdefault(self._group(one.finding.key), []).append(one)
        moved: dict[Key, set[Key]] = {}
        for key in self._moved:
            if key in self._belongs:
                moved.setdefault(self._group(key), set()).add(key)
        self._moved = set()
        before: dict[Key, list[_Joined]] = {}
        for key, joined in self._joined.items():
            before.setdefault(self._group(key), []).append(joined)
        self._joined = {}
        changed: list[Entry] = []
        for group in groups.keys() | moved.keys() | before.keys():
            opened = groups.get(group, [])
            signature = tuple(one.signature for one in opened)
            was = before.get(group, [])
            if group not in moved and len(was) == 1 and was[0].signature == signature:
                joined = was[0]
            else:
                keys = {key for one in opened for key in (one.finding.key, one.finding.follows) if key is not None}
                begin = keys.union(moved.get(group, ()), *(one.keys for one in was))
                roots = self._join_anew(opened, self._members(begin), changed)
                joined = _Joined(signature, frozenset(keys), roots)
            if opened:
                self._joined[group] = joined
            for one, (root, more) in zip(opened, joined.roots, strict=True):
                one.finding.root = root
                one.finding.witnesses = _with(one.finding.witnesses, more)
        return changed

    def _members(self, keys: set[Key]) -> list[Entry]:
        """All that are over on resources that hang together with these by what follows from what."""
        found: dict[Entry, None] = {}
        left, seen = list(keys), set(keys)
        while left:
            key = left.pop()
            for entry in (*self._by_key.get(key, ()), *self._followers.get(key, ())):
                found[entry] = None
                for other in (entry.key, entry.follows):
                    if other is not None and other not in seen:
                        seen.add(other)
                        left.append(other)
        return list(found)

    def _join_anew(
        self, opened: Sequence[_Open], over: list[Entry], changed: list[Entry]
    ) -> list[tuple[str | None, list[Witness]]]:
        """Join these; gives the roots of the open ones, and the witnesses that they get."""
        findings = {entry: entry.alone() for entry in over}
        told = [(entry.order, 0, entry.number, finding) for entry, finding in findings.items()]
        told += [(one.order, 1, one.number, one.finding) for one in opened]
        told.sort(key=lambda one: one[:3])
        counts = {entry: len(finding.witnesses) for entry, finding in findings.items()}
        alone = [set(one.finding.witnesses) for one in opened]
        join([finding for *_, finding in told])
        for entry, finding in findings.items():
            witnesses = finding.witnesses if len(finding.witnesses) > counts[entry] else None
            if entry.join(finding.root, witnesses):
                changed.append(entry)
        return [
            (one.finding.root, [witness for witness in one.finding.witnesses if witness not in known])
            for one, known in zip(opened, alone, strict=True)
        ]


def join(findings: Sequence[Finding]) -> None:
    """Give findings of one cause their root: the finding on what they follow from, else the first of their group.

    They come as their rules do.
    """
    by_key: dict[Key, list[Finding]] = {}
    for finding in findings:
        by_key.setdefault(finding.key, []).append(finding)
    groups: dict[Key, list[Finding]] = {}
    follows: list[tuple[Finding, Finding]] = []
    for finding in findings:
        if finding.follows is None:
            continue
        roots = [root for root in by_key.get(finding.follows, ()) if root is not finding and root.rule != finding.rule]
        if finding.rule == LeakedIP.code:
            groups.setdefault(finding.follows, []).append(finding)
        elif roots:
            root = max(roots, key=lambda root: (root.until is None, root.since))
            follows.append((finding, root))
            if finding.rule == NamespaceNotBound.code:
                roles = {"trigger": "blocked", "healing": "unblocked"}
                more = [Witness(roles[w.role], w.at) for w in finding.witnesses if w.role in roles]
                root.witnesses = _with(root.witnesses, more)
    for group in groups.values():
        first = min(group, key=lambda finding: (finding.since, finding.id))
        for finding in group:
            if finding is not first:
                finding.root = first.id
    for finding, root in follows:
        finding.root = root.root or root.id


def _with(witnesses: list[Witness], more: Iterable[Witness]) -> list[Witness]:
    """Witnesses in the order of events, each place once."""
    told = {witness.at for witness in witnesses}
    added = [witness for witness in more if witness.at not in told]
    return sorted([*witnesses, *added], key=lambda witness: witness.at) if added else witnesses


def _take_out(lists: dict[Key, list[Entry]], key: Key, entry: Entry) -> None:
    left = [one for one in lists[key] if one is not entry]
    if left:
        lists[key] = left
    else:
        del lists[key]


def _place(entry: Entry) -> tuple[int, str]:
    return entry.place
