"""What the daemon says while it runs, on stderr: JSON lines for machines, or text for a person at a terminal.

A line has a time, a level, the logger's name and a message; what is given as `extra` stands beside them, and under `fields`
in it what would bear a name that logging itself has.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final

FORMATS: Final = ("auto", "json", "text")
LEVELS: Final = ("debug", "info", "warning", "error")


class JSONLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_more(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class Text(logging.Formatter):
    """For a person."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; more where there is a traceback."""
        fields = "".join(f" {name}={value!r}" for name, value in _more(record).items())
        text = f"{_time(record)[11:23]} {record.levelname.lower():<7} {record.getMessage()}{fields}"
        # What a client sent may hold anything: it must not write lines of its own.
        text = text.translate(_CONTROL)
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


_CONTROL = {number: f"\\x{number:02x}" for number in (*range(32), 127)}


def begin(format: str, level: str) -> None:
    """Everything that is logged goes to stderr from now on."""
    as_json = format == "json" or (format == "auto" and not sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONLines() if as_json else Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # It tells of every request that it does not understand; `server` answers and `routes` counts them.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    # They tell of every request, with an address that may hold what lets somebody in.
    for name in ("httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.raiseExceptions = False  # a log that cannot be written must not end the work


_OWN = frozenset({*logging.makeLogRecord({}).__dict__, "message", "asctime", "taskName"})


def _more(record: logging.LogRecord) -> dict[str, Any]:
    """What was given beside the message."""
    given = {name: value for name, value in record.__dict__.items() if name not in _OWN}
    return {**given.pop("fields", {}), **given}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
