"""The command line as a person or a script meets it: what is said, where, with which exit status."""

import gzip
import json
import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
import yaml
from click.testing import CliRunner, Result

from adapters import cli as command_line
from adapters import tables
from adapters.stores.sqlite_file import SQLiteFile
from tests.replaying import DATA, recording

SHOP = DATA / "s0-buggy" / "audit.log.gz"
CLEAN = DATA / "s1-control-clean" / "audit.log.gz"
NETLEDGER = [sys.executable, "-c", "from adapters.start import main; main()"]
ENVIRONMENT = {
    key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR", "NETLEDGER_LEDGER")
}


def run(*arguments: object, columns: int = 80, **environment: str) -> Result:
    """One command in this process."""
    return CliRunner().invoke(
        command_line.cli,
        [str(argument) for argument in arguments],
        env={"COLUMNS": str(columns), "NETLEDGER_LEDGER": None, **environment},
        prog_name="netledger",
    )


def start(*arguments: object, **options: object) -> "subprocess.Popen[bytes]":
    """One command in a process of its own."""
    options.setdefault("env", ENVIRONMENT)
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    return subprocess.Popen([*NETLEDGER, *map(str, arguments)], **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger that the incident of the VPC that cannot be deleted was replayed into."""
    path = tmp_path_factory.mktemp("shop") / "shop.ledger"
    assert run("replay", SHOP, "--ledger", path).exit_code == 1
    return path


# ---- exit status, and what goes where


def test_exit_status_is_0_for_a_clean_log_1_for_open_errors_2_when_the_work_could_not_be_done():
    assert run("replay", CLEAN).exit_code == 0
    assert run("replay", SHOP).exit_code == 1
    assert run("replay", "nowhere.log").exit_code == 2


def test_data_goes_to_stdout_and_talk_to_stderr(shop: Path):
    result = run("get", "vpc", "--ledger", shop)
    assert "vpc-shop" in result.stdout and "as of" not in result.stdout
    assert "as of revision 331" in result.stderr and "missing: nothing" in result.stderr


def test_an_error_inside_netledger_is_not_taken_for_open_errors(monkeypatch, capsys):
    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("what nobody thought of")

    monkeypatch.setattr(command_line, "cli", broken)
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    with pytest.raises(SystemExit) as exit:
        command_line.main()
    assert exit.value.code == 2
    told = capsys.readouterr().err
    assert "what nobody thought of" in told and "bug in netledger" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["replay", "nowhere.log"], "nowhere.log: there is no such file or folder"),
        (["replay", "{empty}"], "holds no files"),
        (["replay", "{nothing}"], "skipped, it is empty"),
        (["replay", "{text}"], "it is in no format that is known here"),
        (["replay", "{text}"], "nothing that was given is a recording that can be read"),
        (["replay", SHOP, "--at", "yesterday"], "neither a revision"),
        (["replay", SHOP, "--patience", "nan"], "give seconds"),
        (["replay", SHOP, "--ledger", "{nothing}/x"], "there is no directory"),
        (["replay", SHOP, "--ledger", "{text}"], "is not a netledger ledger"),
        (["replay", SHOP, "--ledger", "{empty}"], "is a directory"),
        (["replay", "{text}", "--ledger", "{text}"], "is both what is to be read and the ledger"),
        (["replay", b"\xff.gz".decode(errors="surrogateescape")], "there is no such file"),
        (["get", "vpc"], "which ledger?"),
        (["rebuild"], "which ledger?"),
        (["verify"], "which ledger?"),
        (["get", "vpc", "--ledger", "nowhere.ledger"], "there is no ledger at"),
        (["get", "vpc", "--ledger", "{nothing}"], "is not a netledger ledger: it is empty"),
        (["get", "vpx", "--ledger", "{shop}"], "there is no kind 'vpx'; did you mean vpc?"),
        (["get", "zzz", "--ledger", "{shop}"], "the kinds are vpc, subnet, pod"),
        (["get", "vpc/vpc-shp", "--ledger", "{shop}"], "did you mean vpc-shop?"),
        (["get", "vpc/", "--ledger", "{shop}"], "a name is missing"),
        (["get", "vpc/vpc-shop", "vpc-shop", "--ledger", "{shop}"], "give the name once"),
        (["get", "pod", "web-0", "--ledger", "{shop}"], "add -n NAMESPACE, or say pod/NAMESPACE/web-0"),
        (["get", "pod/a/web-0", "-n", "b", "--ledger", "{shop}"], "two namespaces"),
        (["get", "subnet/net-db", "--ledger", "{shop}"], "`netledger history subnet/net-db` shows"),
        (["get", "vpc", "--at", "soon", "--ledger", "{shop}"], "neither a revision"),
        (["history", "vpc", "--ledger", "{shop}"], "netledger history vpc/NAME"),
        (["history", "vpc/vpc-ship", "--ledger", "{shop}"], "did you mean vpc-shop?"),
        (["findings", "nothing-like-it", "--ledger", "{shop}"], "`netledger findings -o name` lists"),
        (["explain", "lost-updat"], "did you mean lost-update?"),
        (["explain", "xyz"], "the rules are illegal-transition"),
        (["lifecycle", "vpv"], "did you mean vpc?"),
        (["repaly"], "did you mean replay?"),
        (["get", "vpc", "-o", "jsn"], "'jsn' is not one of"),
    ],
)
def test_what_cannot_be_done_is_said_on_stderr_with_what_to_do(arguments, told, shop: Path, tmp_path: Path):
    places = {"shop": shop, "empty": tmp_path / "empty", "nothing": tmp_path / "nothing", "text": tmp_path / "text"}
    places["empty"].mkdir()
    places["nothing"].touch()
    places["text"].write_text("hello\n")
    result = run(*(str(argument).format(**places) for argument in arguments))
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_a_ledger_is_not_made_for_a_path_that_does_not_exist(tmp_path: Path):
    run("replay", tmp_path / "nowhere.log", "--ledger", tmp_path / "new.ledger")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_never_touched_because_it_was_named_as_ledger_by_mistake(tmp_path: Path):
    log = tmp_path / "audit.log.gz"
    shutil.copy(SHOP, log)
    assert run("replay", log, "--ledger", log).exit_code == 2
    assert log.read_bytes() == SHOP.read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["audit.log.gz"]


def test_a_folder_may_hold_other_files_and_the_ledger_itself(tmp_path: Path):
    shutil.copy(SHOP, tmp_path)
    (tmp_path / "notes.txt").write_text("call alice\n")
    for _ in range(2):
        result = run("replay", tmp_path, "--ledger", tmp_path / "kept.ledger", "-o", "json")
        assert result.exit_code == 1
        sources = json.loads(result.stdout)["sources"]
        assert [(Path(source["path"]).name, source["format"]) for source in sources] == [
            ("audit.log.gz", "audit.k8s.io"),
            ("notes.txt", "unknown"),
        ]
        assert "notes.txt: skipped" in result.stderr
    assert sources[0]["duplicates"] == 26


@pytest.mark.parametrize("content", [SHOP.read_bytes(), gzip.decompress(SHOP.read_bytes())], ids=["gzip", "plain"])
def test_standard_input_is_read_plain_and_compressed(content: bytes):
    process = start("replay", "-", stdin=subprocess.PIPE)
    out, told = process.communicate(content, timeout=60)
    assert process.returncode == 1 and told == b""
    assert out.startswith(b"Replayed standard input\n") and b"line 466" in out


# ---- stores that cannot be written or read


def test_a_ledger_that_another_process_writes_is_refused_with_who_it_is(tmp_path: Path):
    path = tmp_path / "busy.ledger"
    with SQLiteFile(path):
        result = run("replay", SHOP, "--ledger", path)
    assert result.exit_code == 2
    assert f"process {os.getpid()}" in result.stderr


def test_a_ledger_of_a_later_version_is_left_alone(tmp_path: Path):
    import sqlite3

    path = tmp_path / "newer.ledger"
    run("replay", SHOP, "--ledger", path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    for arguments in (["replay", SHOP], ["get", "vpc"], ["verify"]):
        result = run(*arguments, "--ledger", path)
        assert result.exit_code == 2
        assert "version 99" in result.stderr


def test_a_full_disk_ends_in_a_sentence_and_the_same_command_finishes_later(tmp_path: Path):
    path = tmp_path / "full.ledger"
    log = DATA / "mixed-small" / "audit.log.gz"
    limit = 300_000

    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = start("replay", log, "--ledger", path, preexec_fn=little_room)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 2
    assert b"Traceback" not in told and str(path).encode() in told
    assert run("verify", "--ledger", path).exit_code == 0
    assert (
        json.loads(run("replay", log, "--ledger", path, "-o", "json").stdout)["ledger"]["digest"]
        == (json.loads(run("replay", log, "-o", "json").stdout)["ledger"]["digest"])
    )


def test_an_answer_that_cannot_be_written_whole_is_a_failure():
    with Path("/dev/full").open("wb") as full:
        process = start("replay", SHOP, "-o", "json", stdout=full)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 2
    assert told == (
        b"netledger: standard output cannot be written: No space left on device; what was printed so far is not the "
        b"whole answer\n"
    )


# ---- interrupted


def test_a_reader_that_has_seen_enough_ends_it_quietly():
    process = subprocess.run(
        ["bash", "-c", '"$@" | head -1', "head", *NETLEDGER, "replay", str(SHOP)],
        env=ENVIRONMENT,
        capture_output=True,
        timeout=60,
    )
    assert process.stdout.startswith(b"Replayed") and process.stderr == b""


def test_an_interrupted_replay_into_a_kept_ledger_verifies_and_goes_on_from_there(tmp_path: Path):
    path = tmp_path / "kept.ledger"
    log = recording("mixed-seed7")[0]
    process = start("replay", "-", "--ledger", path, stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(gzip.decompress(log.read_bytes()))
    process.stdin.flush()
    _wait_for_records(path)
    process.send_signal(signal.SIGINT)
    out, told = process.communicate(timeout=60)
    assert process.returncode == 130 and out == b""
    assert b"netledger: interrupted; what was read so far is kept in" in told and b"Traceback" not in told
    assert run("verify", "--ledger", path).exit_code == 0

    resumed = json.loads(run("replay", log, "--ledger", path, "-o", "json").stdout)
    assert resumed["sources"][0]["duplicates"] > 0
    assert resumed["ledger"]["digest"] == json.loads(run("replay", log, "-o", "json").stdout)["ledger"]["digest"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_throw_away_ledger_is_thrown_away_when_interrupted_too(number: int, tmp_path: Path):
    process = start("replay", "-", stdin=subprocess.PIPE, env={**ENVIRONMENT, "TMPDIR": str(tmp_path)})
    _wait_until(lambda: any(tmp_path.iterdir()))
    time.sleep(0.3)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"interrupted; nothing was kept" in told
    assert list(tmp_path.iterdir()) == []


def _wait_for_records(path: Path) -> None:
    import sqlite3

    def some() -> bool:
        try:
            with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
                return bool(connection.execute("SELECT count(*) FROM journal_block").fetchone()[0])
        except sqlite3.Error:
            return False

    _wait_until(some)


def _wait_until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that within 30 s"
        time.sleep(0.02)


# ---- what is typed


@pytest.mark.parametrize(
    "kind", ["vpc", "vpcs", "VPC", "Vpc", "vpcs.kubeovn.io", "vpc/vpc-shop", "VPCS.kubeovn.io/vpc-shop"]
)
def test_a_kind_is_called_as_kubectl_calls_it(kind: str, shop: Path):
    result = run("get", kind, "-o", "name", "--ledger", shop)
    assert result.stdout == "vpc/vpc-shop\n" and result.exit_code == 0


def test_the_ledger_may_come_from_the_environment(shop: Path):
    assert "vpc-shop" in run("get", "vpc", NETLEDGER_LEDGER=str(shop)).stdout


def test_namespaced_resources_are_named_in_every_way_people_do(tmp_path: Path):
    path = tmp_path / "s2.ledger"
    run("replay", DATA / "mixed-small" / "audit.log.gz", "--ledger", path)
    every = run("get", "pods", "-o", "name", "--ledger", path).stdout.split()
    _, namespace, name = every[0].split("/")
    inside = run("get", "po", "-n", namespace, "-o", "name", "--ledger", path).stdout.split()
    assert every[0] in inside and all(one.startswith(f"pod/{namespace}/") for one in inside)
    answers = {
        run(*arguments, "-o", "json", "--ledger", path).stdout
        for arguments in (
            ["get", "pod", name, "-n", namespace],
            ["get", f"pod/{name}", "-n", namespace],
            ["get", f"pod/{namespace}/{name}"],
            ["get", "pods", f"{namespace}/{name}"],
        )
    }
    assert [json.loads(answer)["name"] for answer in answers] == [name]


def test_every_answer_can_be_had_at_an_earlier_time_or_revision(shop: Path):
    at_revision = run("get", "vpc", "vpc-shop", "--at", "329", "-o", "json", "--ledger", shop)
    at_time = run("get", "vpc", "vpc-shop", "--at", "2026-11-21T01:24:04Z", "-o", "json", "--ledger", shop)
    assert json.loads(at_revision.stdout) == json.loads(at_time.stdout)
    assert json.loads(at_time.stdout)["reported"]["status.subnets"] == []
    before = run("get", "vpc", "--at", "1", "--ledger", shop)
    assert before.exit_code == 0 and before.stdout == "" and "no vpcs are there at 1" in before.stderr


def test_patience_says_when_a_missing_reaction_is_overdue():
    s1 = DATA / "s1-buggy" / "audit.log.gz"
    patient = json.loads(run("replay", s1, "--patience", "60", "-o", "json").stdout)
    assert {finding["status"] for finding in patient["findings"] if finding["rule"] == "NL105"} == {"pending"}
    assert run("replay", s1, "--patience", "1").exit_code == 1


# ---- what is printed


def test_get_prints_what_is_wrong_beside_what_is_reported(shop: Path):
    header, row = run("get", "vpc", "--ledger", shop).stdout.splitlines()
    assert header.split() == ["NAME", "STATE", "SUBNETS", "SWITCH", "SHOULD", "BE"]
    assert row.split() == ["vpc-shop", "TERMINATING", "net-db", "-", "subnets", "none"]
    assert run("get", "vpc", "--no-headers", "--ledger", shop).stdout.splitlines()[0].split() == row.split()


def test_the_same_resource_comes_as_json_and_as_yaml(shop: Path):
    from_json = json.loads(run("get", "vpc/vpc-shop", "-o", "json", "--ledger", shop).stdout)
    assert from_json == yaml.safe_load(run("get", "vpc/vpc-shop", "-o", "yaml", "--ledger", shop).stdout)
    assert from_json["drift"] == {"status.subnets": {"lawful": [], "reported": ["net-db"]}}
    assert json.loads(run("get", "vpc", "-o", "json", "--ledger", shop).stdout) == [from_json]


def test_long_lists_are_cut_but_not_in_wide():
    assert tables.cell(list("abcde"), wide=False) == "a,b,c,+2"
    assert tables.cell(list("abcde"), wide=True) == "a,b,c,d,e"


def test_history_tells_of_what_is_gone(shop: Path):
    result = run("history", "subnet/net-db", "-o", "name", "--ledger", shop)
    events = result.stdout.split()
    assert result.exit_code == 0
    assert events[0] == "SubnetCreated" and events[-1] == "SubnetRemoved"
    rows = json.loads(run("history", "subnet/net-db", "-o", "json", "--ledger", shop).stdout)
    assert [row["event"] for row in rows] == events
    assert rows[0]["actor"] == "alice" and rows[0]["source"].endswith("audit.log.gz:424")
    wide = run("history", "subnet/net-db", "-o", "wide", "--ledger", shop).stdout.splitlines()
    assert len(wide) == len(rows) + 1 and rows[0]["audit_id"] in wide[1]


def test_findings_are_listed_and_one_is_told_whole(shop: Path):
    result = run("findings", "--ledger", shop)
    assert result.exit_code == 1
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["STATUS", "open", "open"]
    names = run("findings", "-o", "name", "--ledger", shop).stdout.split()
    for name in (names[0], "lost-update"):
        told = run("findings", name, "--ledger", shop)
        assert told.exit_code == 1 and "audit.log.gz:466 first" in told.stdout and "Repair" in told.stdout
    assert json.loads(run("findings", names[1], "-o", "json", "--ledger", shop).stdout)["root"] == names[0]


def test_open_leaves_out_what_healed(tmp_path: Path):
    path = tmp_path / "mixed.ledger"
    run("replay", DATA / "mixed-small" / "audit.log.gz", "--ledger", path)
    every = json.loads(run("findings", "-o", "json", "--ledger", path).stdout)
    opened = json.loads(run("findings", "--open", "-o", "json", "--ledger", path).stdout)
    assert {finding["status"] for finding in every} == {"open", "healed"}
    assert opened == [finding for finding in every if finding["status"] == "open"]


def test_an_empty_list_is_said_and_is_no_failure(tmp_path: Path):
    path = tmp_path / "clean.ledger"
    run("replay", CLEAN, "--ledger", path)
    for arguments, told in ((["get", "fip"], "no iptables-fip-rules are there"), (["findings"], "no findings")):
        result = run(*arguments, "--ledger", path)
        assert result.exit_code == 0 and result.stdout == "" and told in result.stderr
        assert json.loads(run(*arguments, "-o", "json", "--ledger", path).stdout) == []


def test_reports_fit_80_columns_but_for_commands_to_copy():
    for name in ("s0-buggy", "s1-buggy", "s2-buggy-A", "s4-buggy", "mixed-small"):
        lines = run("replay", DATA / name / "audit.log.gz").stdout.splitlines()
        prose = [line for line in lines if not line.startswith("     kubectl ")]
        # Two lines hold names, which are not broken: a finding's title and a witness's first.
        assert [
            line for line in prose if len(line) > 80 and not line[:6].strip().isupper() and ":" not in line[:6]
        ] == []
        assert [line for line in lines if line != line.rstrip()] == []


def test_verify_says_what_is_there_and_lists_what_was_set_aside(tmp_path: Path):
    log, path = tmp_path / "audit.log", tmp_path / "kept.ledger"
    log.write_bytes(gzip.decompress(SHOP.read_bytes()) + b"{cut off\n")
    replayed = run("replay", log, "--ledger", path)
    assert "1 of 529 records could not be read and was set aside" in replayed.stderr
    assert run("verify", "--ledger", path).stdout.endswith(
        "events up to position 26 and 26 records, all as they were written\n"
    )
    assert run("verify", "--aside", "--ledger", path).stdout.startswith(f"{log}:529: ")


def test_verify_finds_a_changed_byte(tmp_path: Path):
    import sqlite3

    path = tmp_path / "kept.ledger"
    run("replay", SHOP, "--ledger", path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE event_block SET content = zeroblob(length(content)) WHERE first = 1")
    connection.close()
    result = run("verify", "--ledger", path)
    assert result.exit_code == 2 and "ledger 1" in result.stdout and "do not trust" in result.stderr


# ---- colour, bars


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colour_only_on_a_terminal_and_not_against_no_color(no_color: str, coloured: bool):
    ours, theirs = pty.openpty()
    process = start("replay", SHOP, stdout=theirs, env={**ENVIRONMENT, "NO_COLOR": no_color, "TERM": "xterm"})
    os.close(theirs)
    read = b""
    try:
        while chunk := os.read(ours, 65536):
            read += chunk
    except OSError:  # Linux ends a terminal's output so
        pass
    os.close(ours)
    _, told = process.communicate(timeout=60)
    assert (b"\x1b[" in read) is coloured and b"vpc-shop" in read
    assert told == b""  # no bar where stderr is no terminal


def test_no_colour_in_a_pipe():
    process = start("replay", SHOP)
    out, told = process.communicate(timeout=60)
    assert b"\x1b" not in out and told == b""


def test_bars_on_a_terminal_are_gone_when_the_work_is_done():
    ours, theirs = pty.openpty()
    process = start("replay", SHOP, stderr=theirs, env={**ENVIRONMENT, "TERM": "xterm"})
    os.close(theirs)
    out, _ = process.communicate(timeout=60)
    told = os.read(ours, 1 << 20)
    os.close(ours)
    assert b"reading" in told and b"\x1b" not in out


# ---- reference


def test_explain_says_when_a_rule_fires_and_how_to_check_it_by_eye():
    for word in ("NL101", "nl101", "lost-update"):
        told = run("explain", word).stdout
        assert told.startswith("NL101 lost-update (error)\n") and "To check by eye:" in told and "kube-ovn#5220" in told
    from projections.findings.judge import RULES

    listed = run("explain", columns=80).stdout.splitlines()
    assert listed[0].split() == ["CODE", "SEVERITY", "NAME"] and len(listed) == 1 + len(RULES)


def test_every_lifecycle_fits_80_columns_and_breaks_no_word():
    from domain.kinds import LIFECYCLES

    for kind, table in LIFECYCLES.items():
        lines = run("lifecycle", kind).stdout.splitlines()
        first_words = {line.split()[0] for line in lines[1:] if not line.startswith(" ")}
        assert first_words == set(table.events)
        longest = max(map(len, table.events)) + max(len(row.target) for row in table.rows)
        assert all(len(line) <= max(80, longest + 46) for line in lines)
        assert "stateDiagram-v2" in run("lifecycle", kind, "-o", "mermaid").stdout
        assert len(json.loads(run("lifecycle", kind, "-o", "json").stdout)) == len(table.rows)


# ---- help, completion, version


def test_every_command_explains_itself():
    names = list(command_line.cli.commands)
    top = run("--help").stdout
    assert "Exit status: 0 no open error, 1 open errors, 2" in top and "..." not in top.partition("Commands:")[2]
    for name in names:
        result = run(name, "-h")
        assert result.exit_code == 0 and f"Usage: netledger {name}" in result.stdout
        for option in command_line.cli.commands[name].params:
            assert not isinstance(option, click.Option) or option.help, f"{name} has an option without help"
    for name in ("replay", "get", "history", "findings", "rebuild", "verify"):
        assert "Exit status:" in run(name, "-h").stdout


def test_version_is_the_installed_one():
    from importlib.metadata import version

    assert run("version").stdout == run("--version").stdout == f"netledger {version('netledger')}\n"
    assert json.loads(run("version", "-o", "json").stdout) == {"netledger": version("netledger")}


def test_asking_for_the_version_waits_for_nothing_it_does_not_need():
    program = "import sys, adapters.cli; print(sorted({'rich', 'yaml', 'sqlite3', 'eventsourcing'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


@pytest.fixture(scope="module")
def on_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with `netledger` in it."""
    folder = tmp_path_factory.mktemp("bin")
    script = folder / "netledger"
    script.write_text(f"#!{sys.executable}\nfrom adapters.start import main\nmain()\n")
    script.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("netledger re", {"replay", "rebuild"}),
        ("netledger get nat", {"nat-gateway"}),
        ("netledger get vpc/", {"vpc/vpc-shop"}),
        ("netledger explain lost", {"lost-update"}),
        ("netledger lifecycle names", {"namespace"}),
        ("netledger get vpc -o ya", {"yaml"}),
        ("netledger findings stuck", {"stuck-deletion/vpc/vpc-shop/22a1bbf6/metadata.finalizers"}),
    ],
)
def test_completion_works_in_bash(typed: str, offered: set[str], on_path: str, shop: Path):
    words = typed.split(" ")
    script = (
        'eval "$(netledger completion bash)"; '
        f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
        '_netledger_completion netledger; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    environment = {**ENVIRONMENT, "PATH": on_path, "NETLEDGER_LEDGER": str(shop), "PYTHONPATH": str(Path.cwd())}
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, timeout=60)
    assert offered <= set(result.stdout.split()), result.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_asks_netledger(shell: str):
    assert "_NETLEDGER_COMPLETE" in run("completion", shell).stdout


def test_a_replaced_package_is_a_sentence_and_exit_status_2(monkeypatch, capsys):
    from adapters.start import main

    monkeypatch.setitem(sys.modules, "adapters.cli", SimpleNamespace())
    error = ImportError("cannot import name 'main' from 'adapters.cli'", name="adapters.cli")

    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "adapters.cli":
                raise error

    monkeypatch.delitem(sys.modules, "adapters.cli")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    monkeypatch.delattr(sys.modules["adapters"], "cli", raising=False)
    with pytest.raises(SystemExit) as exit:
        main()
    assert exit.value.code == 2 and "environment of its own" in capsys.readouterr().err


# ---- what a person says of a source, and what is missing


def stretched(path: Path, minutes: float) -> Path:
    """The incident's log with its second half so many minutes later."""
    records = [json.loads(line) for line in gzip.decompress(SHOP.read_bytes()).splitlines()]
    times = sorted(record["stageTimestamp"] for record in records)
    for record in records:
        if record["stageTimestamp"] > times[len(times) // 2]:
            for stamp in ("stageTimestamp", "requestReceivedTimestamp"):
                moved = datetime.fromisoformat(record[stamp]) + timedelta(minutes=minutes)
                record[stamp] = moved.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_a_missing_part_of_a_rotated_log_is_told_as_a_silence(tmp_path):
    log = stretched(tmp_path / "audit.log", 7)
    found = json.loads(run("replay", log, "-o", "json").stdout)["coverage"]["silences"]
    assert found == [{"source": None, "from": "2026-11-21T01:24:00Z", "to": "2026-11-21T01:30:00Z"}]
    assert "1 silence in an audit log" in run("replay", log).stdout
    assert json.loads(run("replay", SHOP, "-o", "json").stdout)["coverage"]["silences"] == []


def test_a_servers_silence_is_told_though_another_server_speaks(tmp_path):
    log = stretched(tmp_path / "one.log", 3)
    records = [json.loads(line) for line in log.read_text().splitlines()]
    other = tmp_path / "other.log"
    noise = next(record for record in records if record["verb"] == "get")
    lines = [
        {**noise, "auditID": str(minute), "stageTimestamp": f"2026-11-21T01:{minute}:30.000000Z"}
        for minute in range(23, 28)
    ]
    other.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = json.loads(run("replay", log, other, "-o", "json").stdout)["coverage"]["silences"]
    assert found == [{"source": str(log), "from": "2026-11-21T01:24:00Z", "to": "2026-11-21T01:26:00Z"}]


def test_require_complete_answers_where_nothing_is_missing_and_else_says_what_is(tmp_path):
    whole = run("replay", SHOP, "--require-complete")
    assert whole.exit_code == 1 and "lost-update" in whole.stdout
    lacking = run("replay", stretched(tmp_path / "audit.log", 7), "--require-complete")
    assert (lacking.exit_code, lacking.stdout) == (2, "")
    assert "the evidence is not complete: 1 silence in an audit log; no verdict is given" in lacking.stderr


def test_a_source_whose_clock_is_ahead_is_put_right_and_stays_so_in_the_ledger(tmp_path):
    records = [json.loads(line) for line in gzip.decompress(SHOP.read_bytes()).splitlines()]
    for record in records:
        for stamp in ("stageTimestamp", "requestReceivedTimestamp"):
            moved = datetime.fromisoformat(record[stamp]) + timedelta(seconds=90)
            record[stamp] = moved.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    log = tmp_path / "ahead.log"
    log.write_text("".join(json.dumps(record) + "\n" for record in records))
    right = json.loads(run("replay", SHOP, "-o", "json").stdout)
    for ledger in ([], ["--ledger", tmp_path / "kept"], ["--ledger", tmp_path / "kept"]):
        moved = json.loads(run("replay", log, "--skew", "ahead.log=+90", "-o", "json", *ledger).stdout)
        assert [moved["coverage"][end] for end in ("from", "to")] == [right["coverage"][end] for end in ("from", "to")]
        assert [f["since"]["at"] for f in moved["findings"]] == [f["since"]["at"] for f in right["findings"]]
    other = json.loads(run("replay", log, "--skew", "ahead.log=0", "--ledger", tmp_path / "kept", "-o", "json").stdout)
    assert (other["ledger"]["generation"], other["coverage"]["from"] > right["coverage"]["from"]) == (2, True)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--format", "adit"], "there is no format 'adit'"),
        (["--skew", "audit.log.gz=fast"], "give a source and seconds, such as controller.log=+2.5"),
        (["--skew", "audit.log=1"], "none of the files is audit.log; did you mean audit.log.gz?"),
        (["--node", "x.save=node1"], "none of the files is x.save"),
        (["--timezone", "Mars/Olympus"], "give a name such as Europe/Berlin, or an offset such as +02:00"),
        (["--timezone", "+99:00"], "give a name such as Europe/Berlin, or an offset such as +02:00"),
    ],
)
def test_a_wrong_word_on_a_source_is_said_to_be_wrong(options, said):
    result = run("replay", SHOP, *options)
    assert result.exit_code == 2 and said in result.stderr, result.stderr


def test_the_help_names_every_format():
    from adapters.sources.dialects import READERS

    told = " ".join(run("replay", "--help").stdout.split())
    assert f"where they do not show it: {', '.join(sorted(READERS))}." in told


def test_a_log_without_a_year_says_what_to_do():
    line = b"I0704 06:57:37.123456       7 vpc.go:123] handle delete vpc shop\n"

    def piped(*options: str) -> tuple[str, int]:
        child = start("replay", "-", *options, stdin=subprocess.PIPE)
        _, told = child.communicate(line, timeout=60)
        return told.decode(), child.returncode

    told, _ = piped()
    assert "standard input: 1 of 1 record could not be read and was set aside (line 1: its header has no year" in told
    assert "say --year" in told
    assert piped("--year", "2026") == ("", 0)


def test_a_folder_may_hold_what_is_no_recording(tmp_path):
    shutil.copytree(DATA / "s3-buggy", tmp_path / "s3")
    (tmp_path / "s3" / "README.md").write_text("# What happened\n")
    policy = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [{"level": "Metadata"}]}
    (tmp_path / "s3" / "policy.yaml").write_text(yaml.safe_dump(policy))
    result = run("replay", tmp_path / "s3")
    assert result.exit_code == 1 and "2 open errors" in result.stdout
    (told,) = result.stderr.splitlines()
    names = [path.rpartition("/")[2] for path in told.split(": ")[1].split(", ")]
    assert names == ["README.md", "truth.json.gz"] and "they are in no format that is known here" in told
    assert "policy.yaml: API objects, 1: 0 on networks, 1 on others" in result.stdout


# ---- attestations and proofs


def test_a_head_attested_and_an_event_proved_are_checked_without_trusting_the_ledger(tmp_path: Path):
    kept, head, proof = tmp_path / "kept.ledger", tmp_path / "head.json", tmp_path / "proof.json"
    run("replay", SHOP, "--ledger", kept)
    head.write_text(run("attest", "--ledger", kept).stdout)
    proof.write_text(run("prove", 24, "--ledger", kept).stdout)
    verified = run("verify", "--ledger", kept, "--against", head)
    assert verified.exit_code == 0 and "up to 26 as attested at" in verified.stdout
    kept.unlink()
    checked = run("verify", "--proof", proof, "--against", head)
    assert checked.exit_code == 0
    assert checked.stdout.startswith("position 24: vpc/vpc-shop VPCStatusReported: patch vpcs/status by ")
    assert "it is in the log that was attested at" in checked.stdout
    alone = run("verify", "--proof", proof)
    assert alone.exit_code == 0 and "an attestation tells: --against FILE" in alone.stdout
    proof.write_text(proof.read_text().replace('"position":24', '"position":23'))
    forged = run("verify", "--proof", proof, "--against", head)
    assert forged.exit_code == 2 and forged.stdout == "" and "the proof is wrong" in forged.stderr


def test_a_ledger_made_anew_is_not_the_one_that_was_attested(tmp_path: Path):
    kept, head = tmp_path / "kept.ledger", tmp_path / "head.json"
    run("replay", SHOP, "--ledger", kept)
    head.write_text(run("attest", "--ledger", kept).stdout)
    kept.unlink()
    run("replay", recording("s1-buggy")[0], "--ledger", kept)
    result = run("verify", "--ledger", kept, "--against", head)
    assert result.exit_code == 2 and "do not trust answers" in result.stderr
    assert "is not what was attested" in result.stdout or "missing: attested up to 26" in result.stdout
