"""The table of the readers: what it says of a module is what the module says of itself, and nothing is read in vain."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from adapters.sources import dialects


@pytest.mark.parametrize("format", dialects.READERS)
def test_a_reader_is_listed_under_its_own_format(format):
    reader = dialects.called(format)

    assert reader is not None and format == reader.FORMAT
    assert callable(reader.recognises) and callable(reader.read)


@pytest.mark.parametrize("prefix", dialects.RECORDS)
def test_records_are_listed_under_their_own_prefix(prefix):
    records = dialects.of(f"{prefix}:whatever")

    assert prefix == records.PREFIX
    assert callable(records.heads) and callable(records.operation)


def test_every_module_with_a_format_or_a_prefix_is_listed():
    """But for the one that hands its records on under the prefixes of others (cloudevents)."""
    folder = Path(dialects.__file__).parent
    modules = {file.stem: import_module(f"adapters.sources.{file.stem}") for file in folder.glob("[a-z]*.py")}

    assert {name for name, module in modules.items() if hasattr(module, "FORMAT")} == set(dialects.READERS.values())
    assert {name for name, module in modules.items() if hasattr(module, "PREFIX")} == set(dialects.RECORDS.values())


def test_a_name_that_is_no_format_has_no_reader():
    assert dialects.called("") is None
    assert dialects.called("yaml") is None


def test_an_audit_log_is_replayed_without_the_other_readers():
    """They cost a quarter of the start, and most logs are audit logs."""
    log = Path(__file__).parent.parent / "incidents" / "data" / "s0-buggy" / "audit.log.gz"
    others = sorted({*dialects.READERS.values(), *dialects.RECORDS.values()} - {"audit_log"})
    program = f"""
import sys
from adapters.start import main
try:
    main()
finally:
    print([name for name in {others} if "adapters.sources." + name in sys.modules], file=sys.stderr)
"""

    done = subprocess.run(
        [sys.executable, "-c", program, "replay", str(log), "-o", "json"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent.parent,
        check=False,
    )

    assert "lost-update" in done.stdout
    assert done.stderr.strip().splitlines()[-1] == "[]"
