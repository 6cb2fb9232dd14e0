"""The documentation is held to its word: generated pages are fresh, links lead somewhere, the commands it shows run.

A block fenced as `console` in the README or in docs/questions.md is a session in the repository's folder: lines that start
with `$ ` are commands, the lines behind one are what it prints to stdout, and `...` stands for any text, of any number of
lines where it stands alone. How far apart columns stand does not count. All sessions of a page are one: what one command
leaves, the next finds.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters import documentation

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
QUESTIONS = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")


# ---- generated pages


@pytest.mark.parametrize("path", documentation.PAGES)
def test_a_generated_page_is_what_its_sources_say_now(path: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    assert (ROOT / path).read_text(encoding="utf-8") == documentation.PAGES[path](), f"{path} is stale: run `make docs`"


def test_every_rule_and_every_kind_has_its_section():
    from domain.kinds import LIFECYCLES
    from projections.findings.judge import RULES

    findings = anchors(ROOT / "docs" / "findings.md")
    assert {f"{rule.code.lower()}-{rule.name}" for rule in RULES} <= findings
    lifecycles = (ROOT / "docs" / "lifecycles.md").read_text(encoding="utf-8")
    assert lifecycles.count("```mermaid") == len(LIFECYCLES)


def test_the_architecture_page_names_every_module():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page[page.index("## What there is") : page.index("## Properties")]
    named = set(re.findall(r"[a-z_]+", table))
    modules = {
        path.stem
        for folder in ("domain", "projections", "adapters", "adapters/sources")
        for path in (ROOT / folder).glob("[a-z]*.py")
    }
    assert modules - named == set()


# ---- links


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    names: dict[str, int] = {}
    found = set()
    for line in without_code(page.read_text(encoding="utf-8")).splitlines():
        if match := re.match(r"#+ +(.*)", line):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match[1])
            name = re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")
            count = names.get(name, 0)
            names[name] = count + 1
            found.add(f"{name}-{count}" if count else name)
    return found


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)


def links(page: Path) -> Iterator[str]:
    text = re.sub(r"`[^`\n]*`", "", without_code(page.read_text(encoding="utf-8")))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_are_there(page: Path):
    for target in links(page):
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.exists(), f"{page.name} links to {target}, which is not there"
        assert place.is_relative_to(ROOT), f"{page.name} links out of the project: {target}"
        if anchor:
            assert anchor in anchors(place), f"{page.name} links to {target}, and that page has no such heading"


def test_headings_are_named_as_github_names_them(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(
        "# NL101 lost-update\n## `vpc`: the *way*, [linked](x.md)\n## Twice\n## Twice\n```\n# no heading\n```\n"
    )
    assert anchors(page) == {"nl101-lost-update", "vpc-the-way-linked", "twice", "twice-1"}


# ---- commands


class Command:
    """One command of a session and what the page says that it prints; `None` where it shows nothing of it."""

    def __init__(self, line: str, expected: str | None) -> None:
        self.line = line
        self.expected = expected

    def __repr__(self) -> str:
        return self.line


def commands(text: str) -> list[Command]:
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", text, flags=re.M | re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            line, _, expected = part.partition("\n")
            while line.endswith("\\"):
                more, _, expected = expected.partition("\n")
                line = f"{line}\n{more}"
            found.append(Command(line, expected if expected.strip() else None))
    return found


def says(printed: str, expected: str) -> bool:
    """Whether something was printed that the page shows, `...` being anything."""
    pattern = ""
    for line in expected.rstrip("\n").split("\n"):
        if line.strip() == "...":
            pattern += r"(?:.*\n)*"
        else:
            words = re.sub(r"(\\ ){2,}", "  +", re.escape(line.rstrip()))
            pattern += words.replace(re.escape("..."), r"[^\n]*") + r" *\n"
    return re.fullmatch(pattern, printed if printed.endswith("\n") or not printed else printed + "\n") is not None


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each `netledger` command of the README prints, run in order where its files are."""
    return printed_by(README, tmp_path_factory.mktemp("readme"))


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same of docs/questions.md."""
    return printed_by(QUESTIONS, tmp_path_factory.mktemp("questions"))


def printed_by(page: str, folder: Path) -> dict[str, str]:
    for name in ("tests", "docs", "README.md"):
        (folder / name).symlink_to(ROOT / name)
    tools = folder / "bin"
    tools.mkdir()
    (tools / "netledger").write_text(f"#!{sys.executable}\nfrom adapters.start import main\nmain()\n")
    (tools / "netledger").chmod(0o755)
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NETLEDGER_LEDGER")}
    environment |= {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    printed = {}
    for command in commands(page):
        if command.line.startswith("export "):
            environment |= dict([command.line.removeprefix("export ").split("=", 1)])
        elif not command.line.startswith("make"):
            result = subprocess.run(
                ["bash", "-c", command.line],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
            )
            # 1 says that errors are open, and that is what the tour shows.
            assert result.returncode in (0, 1), f"$ {command.line}\n{result.stdout}{result.stderr}"
            assert "Traceback" not in result.stderr, result.stderr
            printed[command.line] = result.stdout
    shutil.rmtree(tools)
    return printed


@pytest.mark.parametrize("command", commands(README), ids=repr)
def test_a_command_of_the_readme_prints_what_the_readme_shows(command: Command, session: dict[str, str]):
    if command.line.startswith("make"):
        assert set(command.line.split()[1:]) <= make_targets()
    elif command.expected is not None:
        assert says(session[command.line], command.expected), session[command.line]


@pytest.mark.parametrize("command", commands(QUESTIONS), ids=repr)
def test_a_command_of_the_page_of_questions_prints_what_the_page_shows(command: Command, questions: dict[str, str]):
    if command.expected is not None:
        assert says(questions[command.line], command.expected), questions[command.line]


def test_the_readme_shows_how_to_replay_ask_and_check():
    lines = " ".join(command.line for command in commands(README))
    for name in ("replay", "get", "history", "findings"):
        assert f"netledger {name}" in lines


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_make_command_in_any_page_is_a_target_of_the_makefile(page: Path):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"(?:`|^ {4}|^\$ )make ([a-z]+)", text, flags=re.M)
    assert set(named) <= make_targets()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_netledger_command_in_any_page_is_one(page: Path):
    from adapters.cli import cli

    for name in re.findall(r"(?:`|^ {4}|^\$ )netledger ([a-z]+)", page.read_text(encoding="utf-8"), flags=re.M):
        assert name in cli.commands, f"{page.name} names `netledger {name}`"


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("one\ntwo\nthree\n", "one\n...\nthree\n", True),
        ("one\nthree\n", "one\n...\nthree\n", True),
        ("one\ntwo\n", "one\n", False),
        ("name  state  17\n", "name  state  ...\n", True),
        ("name      state   17\n", "name  state  ...\n", True),
        ("name other\n", "name  other\n", False),
        ("name  other  17\n", "name  state  ...\n", False),
        ("a.c\n", "abc\n", False),
        ("", "...\n", True),
    ],
)
def test_dots_stand_for_any_text(printed: str, expected: str, same: bool):
    assert says(printed, expected) is same


def test_commands_are_what_follows_a_dollar_sign_in_a_console_block():
    text = "```console\n$ one\nout\n$ two \\\n  more\n```\n```\n$ not this\n```\n```console\n$ three\n```\n"
    assert [(command.line, command.expected) for command in commands(text)] == [
        ("one", "out\n"),
        ("two \\\n  more", None),
        ("three", None),
    ]
