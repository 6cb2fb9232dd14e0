"""What stands in front of a log line when somebody else carried it: the prefixes of kubectl, stern, the container
runtimes, syslog, journald, grep and editors, one on top of the other.

Each is one layer of `LAYERS`. `shape_of` takes a whole prefix apart into layers; `compiled` makes the pattern that takes
the next lines of that shape in one step. The only thing kept of a prefix is its time, because it has the year.
`klog.py` is next: it reads what stands behind.
"""

from __future__ import annotations

import re
from functools import cache

import msgspec

from adapters.sources.dialect import NotARecord, moment

_INSTANT = rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)"
_WORD = rb"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?"

WHOLE, PART = "cri", "cri-part"

LAYERS: dict[str, bytes] = {
    "editor": rb"Line \d+: ",
    "kubectl": rb"\[(?:pod/)?[^\]\s]+\] ",  # kubectl logs --prefix
    WHOLE: _INSTANT + rb" (?:stdout|stderr) F ",
    PART: _INSTANT + rb" (?:stdout|stderr) P ",  # the runtime cuts what is longer than 16 KiB
    "journal": _INSTANT + rb" \S+ [^\s:\[]+(?:\[\d+\])?: ",  # journalctl -o short-iso
    "instant": _INSTANT + rb" ",  # kubectl logs --timestamps, stern -t
    "syslog": rb"(?:<\d{1,3}>)?[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d(?:\.\d{1,6})? \S+ [^\s:\[]+(?:\[\d+\])?: ",  # RFC 3164
    "number": rb"\d{1,9}[:-]",  # grep -n, and its context lines
    "path-number": rb"[^\s:\[]*[^\s:\[\d]:\d{1,9}:|[^\s:\[]*[^\s:\[\d]-\d{1,9}-",  # grep -rn
    "path": rb"[^\s:\[]*[^\s:\[\d]:",  # grep -r
    "stern": _WORD + rb" " + _WORD + rb" ",
    "space": rb"[ \t]+",
}
"""Name to pattern, in the order in which they are tried."""

PREFIX_BYTES = 512
"""A longer prefix is none: the header stands inside a message."""
_DEPTH = 6

_compiled = {name: re.compile(pattern) for name, pattern in LAYERS.items()}
_instant = re.compile(_INSTANT)


class _DockerLine(msgspec.Struct):
    log: str
    time: str = ""


_docker = msgspec.json.Decoder(_DockerLine)
DOCKER = b'{"log":'
_cri = re.compile(_INSTANT + rb" (?:stdout|stderr) ([FP]) ")


def shape_of(prefix: bytes) -> tuple[str, ...] | None:
    """The names of the layers that a prefix is made of, outermost first; `None` if it is not made of such."""
    return _shape_of(prefix, 0, _DEPTH) if len(prefix) <= PREFIX_BYTES else None


def _shape_of(prefix: bytes, at: int, depth: int) -> tuple[str, ...] | None:
    if at == len(prefix):
        return ()
    if depth:
        for name, pattern in _compiled.items():
            found = pattern.match(prefix, at)
            if found and (rest := _shape_of(prefix, found.end(), depth - 1)) is not None:
                return (name, *rest)
    return None


@cache
def compiled(shape: tuple[str, ...], behind: bytes) -> re.Pattern[bytes]:
    """What matches a prefix of that shape (group 1) and `behind`."""
    return re.compile(b"(" + b"".join(b"(?:" + LAYERS[name] + b")" for name in shape) + b")" + behind)


def time_of(prefix: bytes) -> int | None:
    """When a prefix says the line came by, in microseconds since 1970: the innermost, if several do."""
    for found in reversed(_instant.findall(prefix)):
        try:
            return moment(found.decode().replace(",", "."), "the outer time")
        except NotARecord:
            continue
    return None


def piece_of(line: bytes, pending: bool) -> tuple[bytes, bytes, bool] | None:
    """What a container runtime packed into a line, where that is not a whole line behind a plain prefix.

    That is any line of Docker's json-file driver, and of CRI the parts of one that was cut (the last of which is `pending`
    and looks like a whole one): the text, what stood in front of it (with its time), and whether the text goes on in the
    next. `None` for all other lines.
    """
    at = line.find(DOCKER, 0, PREFIX_BYTES)
    if at >= 0 and shape_of(line[:at]) is not None:
        return _unpacked(line[at:])
    cut = _cri.search(line, 0, PREFIX_BYTES)
    if cut and (pending or cut[1] == b"P") and shape_of(line[: cut.start()]) is not None:
        return line[cut.end() :], line[: cut.end()], cut[1] == b"P"
    return None


def _unpacked(line: bytes) -> tuple[bytes, bytes, bool] | None:
    try:
        held = _docker.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    text = held.log.encode("utf-8", "surrogatepass")
    return text.rstrip(b"\r\n"), held.time.encode("utf-8", "surrogatepass") + b" ", not text.endswith(b"\n")
