"""Who holds a ledger for writing: the note that a writer leaves, and how it is told to the one who waits.

The lock itself is the file's (`sqlite_file.py`) or the server's (`postgres_server.py`, `redis_server.py`); the note is only
for messages.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import sys
from datetime import UTC, datetime


def note() -> str:
    """What this process says of itself: pid, host, command line without passwords, since when (UTC)."""
    command = re.sub(r"//[^/@\s]*@", "//***@", shlex.join(sys.argv))
    return json.dumps(
        {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "command": re.sub(r"(password=)[^&\s]*", r"\1***", command)[:300],
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )


def told(note: str | bytes | None) -> str:
    """A note as words of a message."""
    try:
        said = json.loads(note or "")
        return f"process {said['pid']} on {said['host']} ({said['command']}, since {said['since']})"
    except (ValueError, KeyError, TypeError):
        return "another process, which has not said who it is,"
