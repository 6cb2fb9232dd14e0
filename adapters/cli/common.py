"""What commands share: how a command talks, shows data and fails, its options, and the words for kinds and names.

The commands are in `replaying.py`, `asking.py`, `serving.py`, `keeping.py` and `reference.py`; `__init__.py` has them in
one list.
"""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import click

if TYPE_CHECKING:
    from domain.resources import Key, Kind

OPEN_ERRORS, FAILED, INTERRUPTED = 1, 2, 130


def fail(message: str) -> NoReturn:
    """The work could not be done."""
    tell(message)
    raise SystemExit(FAILED)


def tell(message: str) -> None:
    """Talk goes to stderr, behind the data that came before it."""
    sys.stdout.flush()
    click.echo(f"netledger: {message}", err=True)


def show(lines: Iterable[str | bytes]) -> None:
    """Data goes to stdout, all of it, or it is said that it could not. Bytes go as they are."""
    with _standard_output():
        for line in lines:
            if isinstance(line, bytes):
                sys.stdout.buffer.write(line + b"\n")
            else:
                sys.stdout.write(f"{line}\n")


def pour(pieces: Iterable[bytes], place: str) -> None:
    """Bytes as they are, to stdout (`-`) or into a new file, which bears its name only when all of it is on disk."""
    if place == "-":
        with _standard_output():
            for piece in pieces:
                sys.stdout.buffer.write(piece)
        return
    from pathlib import Path

    file = Path(place)
    if file.exists():
        fail(f"{place} is there already; remove it, or name another file")
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as stream:
            for piece in pieces:
                stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _standard_output() -> Iterator[None]:
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        with suppress(OSError, ValueError):  # else Python would try to write the rest once more when it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        fail(f"standard output cannot be written: {error.strerror}; what was printed so far is not the whole answer")


def explained(command: Callable[..., Any]) -> Callable[..., Any]:
    """What can go wrong outside is one line on stderr and exit status 2."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt:
            tell(f"interrupted; {_left_by_interrupt(kwargs)}")
            raise SystemExit(INTERRUPTED) from None
        except OSError as error:
            fail(f"{error.filename or 'the system'}: {error.strerror or error}")
        except Exception as error:
            from adapters.app import NotAMoment
            from adapters.ingest import NothingToRead
            from adapters.label_selector import NotASelector
            from adapters.ports import StoreError
            from adapters.proof import NotAProof
            from adapters.report import NotKnown
            from adapters.trail import NotAToken

            meant_for_people = (NothingToRead, StoreError, NotAMoment, NotAProof, NotASelector, NotAToken, NotKnown)
            if not isinstance(error, meant_for_people):
                if "place" not in kwargs or kwargs["place"].server is None:
                    raise
                from adapters.remote import ServerError

                if not isinstance(error, ServerError):
                    raise
            fail(str(error))

    return run


def _left_by_interrupt(options: dict[str, Any]) -> str:
    if (filled := options.get("target") or (options.get("archive") and options["ledger_path"])) is not None:
        return f"what was taken over so far is kept in {_shown(filled)}; the same command again goes on from there"
    if options.get("write"):
        return (
            f"{_shown(options['ledger_path'])} may be judged again in part; the same command again goes on from there"
        )
    if "paths" not in options:
        return "nothing was changed"
    if not options["ledger_path"]:
        return "nothing was kept"
    from adapters.stores.backends import shown

    return (
        f"what was read so far is kept in {shown(options['ledger_path'])}; the same command again reads on from there"
    )


def _shown(address: str) -> str:
    from adapters.stores.backends import shown

    return shown(address)


def meant(word: str, known: Iterable[str]) -> str:
    """What somebody may have meant who typed a word that is not known; empty if nothing comes close."""
    close = difflib.get_close_matches(word, list(known), 3, 0.6)
    return f"; did you mean {' or '.join(close)}?" if close else ""


ledger_option = click.option(
    "--ledger",
    "ledger_path",
    metavar="FILE|ADDRESS",
    envvar="NETLEDGER_LEDGER",
    help="The kept ledger: a file, or a server's address such as redis://HOST/0?ledger=NAME (or NETLEDGER_LEDGER).",
)


class Place(NamedTuple):
    """Where the answer is: a kept ledger, or a daemon that has one. Every part is as it was typed."""

    ledger: str | None = None
    server: str | None = None
    token: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None


_SERVER_OPTIONS = (
    click.option(
        "--server",
        metavar="URL",
        envvar="NETLEDGER_SERVER",
        help="Ask a daemon (`netledger serve`) instead of a ledger; https://HOST:8440 (or NETLEDGER_SERVER).",
    ),
    click.option(
        "--token-file",
        metavar="FILE",
        envvar="NETLEDGER_TOKEN_FILE",
        help="The token to show it, alone or as a line of its token file (or NETLEDGER_TOKEN_FILE).",
    ),
    click.option("--ca", metavar="FILE", envvar="NETLEDGER_CA", help="Who signed its certificate (PEM)."),
    click.option("--cert", metavar="FILE", envvar="NETLEDGER_CERT", help="A client certificate to show it (PEM)."),
    click.option("--key", metavar="FILE", envvar="NETLEDGER_KEY", help="Its key, where that is in another file."),
)


def _with_place(*options: Callable[..., Any]) -> Callable[..., Any]:
    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def run(
            *given: Any,
            server: str | None,
            token_file: str | None,
            ca: str | None,
            cert: str | None,
            key: str | None,
            ledger_path: str | None = None,
            **more: Any,
        ) -> Any:
            return command(*given, place=_one_of(Place(ledger_path, server, token_file, ca, cert, key)), **more)

        for option in reversed(options):
            run = option(run)
        return run

    return decorate


place_option = _with_place(ledger_option, *_SERVER_OPTIONS)
"""Where to ask: `--ledger`, or `--server` with what proves who one is. The command is given a `Place`."""

server_option = _with_place(*_SERVER_OPTIONS)
"""The same, where only a daemon can answer."""


def _one_of(place: Place) -> Place:
    """With a ledger or a server: a flag wins over the environment, and two of a kind are an error."""
    if place.ledger is None or place.server is None:
        return place
    context = click.get_current_context()
    flag = click.core.ParameterSource.COMMANDLINE
    is_typed = [context.get_parameter_source(name) is flag for name in ("ledger_path", "server")]
    if is_typed == [True, False]:
        return place._replace(server=None)
    if is_typed == [False, True]:
        return place._replace(ledger=None)
    said = "--ledger and --server" if is_typed[0] else "NETLEDGER_LEDGER and NETLEDGER_SERVER"
    fail(f"{said} were both given: which of the two is to answer? Give one")


at_option = click.option("--at", metavar="TIME|REVISION|position:N", help="As it was then, instead of at the end.")

namespace_option = click.option("-n", "--namespace", metavar="NAME", help="Only this namespace.")


def paged(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of an answer that may be long: from when to when, and a page at a time."""
    for option in reversed(
        (
            click.option(
                "--since",
                metavar="TIME|REVISION|position:N|2h",
                help="Only from then on; 2h, 1h30m is before the log's end.",
            ),
            click.option("--until", metavar="TIME|REVISION|position:N|2h", help="Only up to then."),
            click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many; the rest follows."),
            click.option(
                "--continue", "token", metavar="TOKEN", help="Go on behind a page that ended with this token."
            ),
            click.option("--reverse", is_flag=True, help="The newest first."),
        )
    ):
        command = option(command)
    return command


headers_option = click.option("--no-headers", is_flag=True, help="Leave the header line out.")

patience_option = click.option(
    "--patience",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="When a missing reaction is overdue, instead of what the log itself says.",
)


def output_option(*choices: str) -> Callable[..., Any]:
    """`-o`, the first choice being the default."""
    return click.option(
        "-o", "--output", type=click.Choice(choices), default=choices[0], show_default=True, help="How to print it."
    )


@contextmanager
def progress(
    files: Sequence[str],
) -> Iterator[tuple[Callable[[str], Callable[[int], None]], Callable[[str, int], None]]]:
    """Progress bars on stderr where that is a terminal: bytes while reading, records while ordering and judging."""
    if not sys.stderr.isatty():
        yield (lambda path: lambda count: None), (lambda stage, count: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from adapters.ingest import size_of

    columns = (TextColumn("{task.description:<9}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        reading = bars.add_task("reading", total=size_of(files) or None)
        judging = bars.add_task("judging", total=None, visible=False)
        counts = {"order": 0, "decide": 0}

        def advance(stage: str, count: int) -> None:
            # Ordering counts every record before the first is judged: its count is judging's total.
            before = counts[stage]
            counts[stage] += count
            if before == 0:
                bars.update(judging, visible=True)
            if stage == "order":
                bars.update(judging, total=counts["order"])
            elif counts["decide"] >> 8 != before >> 8:
                bars.update(judging, completed=counts["decide"])

        yield (lambda path: lambda count: bars.advance(reading, count)), advance


@contextmanager
def bar(word: str, total: int) -> Iterator[Callable[[int], None]]:
    """One progress bar on stderr where that is a terminal: told of each some more."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<9}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(word, total=total or None)
        done = shown_at = 0

        def advance(count: int) -> None:
            nonlocal done, shown_at
            done += count
            if done - shown_at >= 256 or done >= total:
                bars.update(task, completed=done)
                shown_at = done

        yield advance


def named(path: str | None) -> str:
    """The ledger that was named, or a sentence that one has to be."""
    if not path:
        fail(
            "which ledger? Give --ledger FILE, or set NETLEDGER_LEDGER; `netledger replay --ledger FILE LOG` makes one"
        )
    return path


def kind_of(word: str) -> Kind:
    """The kind that a person means by a plural, singular or short name; else it is said what may have been meant."""
    from domain.resources import KINDS, kind_called

    try:
        return kind_called(word)
    except KeyError:
        names = [kind.name for kind in KINDS]
        close = meant(word.lower(), [*names, *(kind.plural for kind in KINDS)])
        fail(f"there is no kind {word!r}{close or '; the kinds are ' + ', '.join(names)}")


def key_of(kind: Kind, namespace: str | None, name: str) -> Key:
    """A resource by its name, and by its namespace where it has one."""
    from domain.resources import Key

    return Key(kind.name, namespace or "", name)


def resource_of(kind_name: str, name: str | None, namespace: str | None) -> tuple[Kind, str | None, str | None]:
    """`vpc/shop`, `vpc shop`, `pod/web/web-0` or `pod web-0 -n web`: kind, namespace and name."""
    word, slash, rest = kind_name.partition("/")
    kind = kind_of(word)
    if slash:
        if name is not None:
            fail(f"{kind_name} {name}: give the name once")
        if not rest:
            fail(f"{kind_name}: a name is missing after the slash")
        name = rest
    if name is not None and kind.namespaced and "/" in name:
        inside, _, name = name.partition("/")
        if namespace not in (None, inside):
            fail(f"{kind_name} -n {namespace}: these are two namespaces, give one")
        namespace = inside
    if name is not None and not kind.served:
        namespace = namespace or ""  # whose node no source names
    if name is not None and kind.namespaced and namespace is None:
        fail(f"{kind.plural} live in namespaces: add -n NAMESPACE, or say {kind.name}/NAMESPACE/{name}")
    return kind, namespace if kind.namespaced else None, name


def print_data(value: Any, output: str) -> None:
    """Plain data, as `-o json` or `-o yaml`."""
    if output == "json":
        show([json.dumps(value, indent=2, ensure_ascii=False)])
        return
    import yaml

    class Plain(yaml.SafeDumper):
        """What stands in two places is written twice: no reader of the answer looks for anchors."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    show(yaml.dump(value, Dumper=Plain, sort_keys=False, allow_unicode=True).splitlines())
