"""`netledger serve`: every option of the daemon, from flags, the environment and a file; flags win, the file comes last.

click holds the three together and knows of each value where it came from. `adapters/settings.py` checks them,
`adapters/daemon.py` runs.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from adapters.cli.common import explained, fail, meant, show

_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class Size(click.ParamType[int]):
    """`64MiB` as bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Raises `click.BadParameter`."""
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
        found = re.fullmatch(r"(\d{1,15})\s*([KMG]iB|)", str(value).strip())
        if found is None or int(found[1]) == 0:
            self.fail(f"{value!r} is no size; write bytes, or such as 64MiB", param, ctx)
        return int(found[1]) * _UNITS[found[2]]


class Address(click.ParamType[tuple[str, int]]):
    """`127.0.0.1:8440`, `[::1]:8440`."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int]:
        """Raises `click.BadParameter`."""
        if isinstance(value, tuple):
            return value
        host, separator, port = str(value).strip().rpartition(":")
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not separator or not host or not port.isdecimal() or int(port) > 65_535:
            self.fail(f"{value!r} is no address; write HOST:PORT, such as 127.0.0.1:8440 or [::1]:8440", param, ctx)
        return host, int(port)


class ServeCommand(click.Command):
    """Says of a value that cannot be right also where it stands."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Raises `click.UsageError`."""
        try:
            return super().parse_args(ctx, args)
        except click.BadParameter as error:
            name = error.param.name if error.param is not None else None
            source = ctx.get_parameter_source(name) if name is not None else None
            if source is ParameterSource.DEFAULT_MAP:
                place = ctx.meta["netledger.config"]
            elif source is ParameterSource.ENVIRONMENT and error.param is not None:
                place = f"the environment: {error.param.envvar}"
            else:
                raise
            raise click.BadParameter(f"{error.message} (in {place})", error.ctx, error.param) from None


def _read_file(ctx: click.Context, param: click.Parameter, path: str | None) -> str | None:
    """What the file says becomes what holds where nobody says anything else."""
    if path is None:
        return None
    import tomllib

    try:
        told = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        fail(f"{path}: {error.strerror}")
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        fail(f"{path} is no TOML: {error}")
    known = {str(option.name): option for option in settings()}
    found: dict[str, Any] = {}
    for key, value in told.items():
        name = key.replace("-", "_")
        if name not in known:
            close = meant(_key(name), map(_key, known)) or f"; the keys are {', '.join(map(_key, known))}"
            fail(f"{path}: there is no key {key!r}{close}")
        if isinstance(value, dict) or (isinstance(value, list) != known[name].multiple):
            fail(f"{path}: {key} is {'a list of texts' if known[name].multiple else 'one value'}")
        if name in found:
            fail(f"{path}: {_key(name)} stands there twice")
        found[name] = value
    ctx.meta["netledger.config"] = path
    ctx.default_map = found
    return path


def _key(name: str) -> str:
    return name.replace("_", "-")


def _option(name: str, help: str, metavar: str, type: Any = str, default: Any = None, **more: Any) -> Any:
    # One variable for each. There is none for a port alone: Kubernetes itself sets NETLEDGER_PORT in the pods beside a
    # Service that is called netledger.
    return click.option(
        f"--{name}",
        metavar=metavar,
        type=type,
        default=default,
        envvar=f"NETLEDGER_{name.upper().replace('-', '_')}",
        help=help,
        show_default=default is not None,
        **more,
    )


def _flag(name: str, help: str) -> Any:
    return click.option(f"--{name}", is_flag=True, envvar=f"NETLEDGER_{name.upper().replace('-', '_')}", help=help)


_SECONDS = click.FloatRange(min=0.1, max=86_400)
_COUNT = click.IntRange(min=1)
_FILE = click.Path(path_type=Path)
_LOCAL = ("config", "check", "print_config")
"""Options that are about this call, and no setting."""

_OPTIONS = (
    click.option(
        "--config",
        metavar="FILE",
        envvar="NETLEDGER_CONFIG",
        is_eager=True,
        callback=_read_file,
        help="Settings in TOML: the names below without the dashes before them. Environment and flags win.",
    ),
    _option("ledger", "The ledger: a file, or a server's address. It is made where there is none.", "FILE|ADDRESS"),
    _option("listen", "Where to listen.", "HOST:PORT", Address(), "127.0.0.1:8440"),
    _option(
        "tokens", "Who may do what: a line each, TOKEN NAME RIGHT,RIGHT. Read again when it changes.", "FILE", _FILE
    ),
    _flag("no-auth", "Let every program on this machine do everything. On loopback only."),
    _option(
        "tls-cert", "The certificate to serve with, and its chain (PEM). Read again when it is renewed.", "FILE", _FILE
    ),
    _option("tls-key", "Its key, where that is in another file.", "FILE", _FILE),
    _option("client-ca", "Who signs the certificates of clients (PEM).", "FILE", _FILE),
    _option(
        "client",
        "What the holder of a client certificate with that common name may do. May be given often.",
        "NAME=RIGHT,RIGHT",
        multiple=True,
    ),
    _flag("allow-volatile", "Also keep the ledger on a server that may forget what it acknowledged."),
    _flag("watch", "Also watch the API server: list what there is, and take every change of it."),
    _option(
        "kubeconfig", "How to reach the API server; else KUBECONFIG, or the service account in a pod.", "FILE", _FILE
    ),
    _option(
        "cluster",
        "What the cluster is called among the sources and in alerts, the same over restarts; else by its URL.",
        "NAME",
    ),
    _option(
        "source",
        "Also read a Redis stream: redis://HOST/DB/STREAM?group=NAME. May be given often.",
        "URL",
        multiple=True,
    ),
    _option(
        "follow",
        "Also read a file that grows, over its rotation, or all of a pattern. May be given often.",
        "PATH",
        multiple=True,
    ),
    _option(
        "window",
        "For how long records are waited for that overtook each other, in seconds.",
        "SECONDS",
        click.FloatRange(min=0, max=3_600),
        5.0,
    ),
    _option(
        "patience",
        "When a missing reaction is overdue, instead of what the log itself says.",
        "SECONDS",
        click.FloatRange(min=0),
    ),
    _option("max-body", "The largest body of a request, also once inflated.", "SIZE", Size(), "64MiB"),
    _option("max-in-flight", "How many bytes all requests may hold together.", "SIZE", Size(), "256MiB"),
    _option("max-batches", "How many batches may be on their way to the disk.", "N", _COUNT, 64),
    _option("max-connections", "How many connections; an idle one goes for one that asks.", "N", _COUNT, 1000),
    _option("max-streams", "How many may follow findings.", "N", _COUNT, 64),
    _option("max-head", "The largest head of a request: its line and headers.", "SIZE", Size(), "64KiB"),
    _option("head-timeout", "How long a head may take.", "SECONDS", _SECONDS, 10.0),
    _option("request-timeout", "How long a body may take, or a reader that takes nothing.", "SECONDS", _SECONDS, 30.0),
    _option("idle-timeout", "How long a connection is kept that asks nothing more.", "SECONDS", _SECONDS, 90.0),
    _option("max-lag", "From which lag on it is not ready.", "SECONDS", _SECONDS, 300.0),
    _option("min-free", "With less room on the ledger's disk it is not ready.", "SIZE", Size(), "64MiB"),
    _option(
        "alert-webhook",
        "Post alerts there, in Alertmanager's form; without a path, to /api/v2/alerts. May be given often.",
        "URL",
        multiple=True,
    ),
    _option("alert-severity", "Of which findings others are told.", "SEVERITY,SEVERITY", default="error,warning"),
    _option(
        "alert-label",
        "A label of every alert, such as cluster=shop. May be given often.",
        "NAME=VALUE",
        multiple=True,
    ),
    _option("alert-token-file", "A bearer token for the webhooks. Read again for each request.", "FILE", _FILE),
    _option("alert-ca", "Who signs the webhooks' certificates (PEM).", "FILE", _FILE),
    _option("external-url", "Where people reach this daemon: alerts lead there.", "URL"),
    _flag("kubernetes-events", "Write a Kubernetes Event on a resource when a finding of it opens or heals."),
    _option(
        "publish",
        "Push VPC status and ipset membership to that Redis server: redis://HOST/0?prefix=NAME. May be given often.",
        "ADDRESS",
        multiple=True,
    ),
    _option(
        "log-format",
        "JSON lines, or text for people; auto is text at a terminal.",
        "FORMAT",
        click.Choice(["auto", "json", "text"]),
        "auto",
    ),
    _option("log-level", "From which on.", "LEVEL", click.Choice(["debug", "info", "warning", "error"]), "info"),
    click.option("--check", is_flag=True, help="Look at everything, say what would be done, and begin nothing."),
    click.option("--print-config", is_flag=True, help="Print every setting with where it comes from, as TOML."),
)


@click.command(cls=ServeCommand, short_help="Watch a running cluster: take its records, answer, tell.")
@explained
def serve(**given: Any) -> None:
    """Take the records of a running cluster, decide them as they come, and answer questions about them over HTTP.

    A kube-apiserver posts its audit log to /ingest/audit; docs/serve.md shows all of it, from nothing. Every option may
    also stand in the environment (NETLEDGER_LISTEN for --listen) or in the file of --config.

    Exit status: 0 when it was told to end or all is well (--check), 2 if the work could not be done.
    """
    from adapters.settings import Settings

    context = click.get_current_context()
    if given["print_config"]:
        show(printed(context, given))
        return
    if not given["ledger"]:
        fail("which ledger? Give --ledger FILE, or set NETLEDGER_LEDGER; it is made where there is none")
    told = {name: value for name, value in given.items() if name not in _LOCAL}
    told["clients"], told["sources"] = told.pop("client"), told.pop("source")
    settings = Settings(**told)
    if given["check"]:
        _check(settings)
        return
    from adapters import daemon
    from adapters.http.access import AccessError
    from adapters.settings import SettingsError

    try:
        daemon.run(settings)
    except (SettingsError, AccessError) as error:
        fail(str(error))


for _each in _OPTIONS:
    serve = _each(serve)


def options() -> list[click.Option]:
    """Every option, in the order of the help."""
    return [option for option in serve.params if isinstance(option, click.Option)]


def settings() -> list[click.Option]:
    """Those that are settings: for the table in docs/serve.md too."""
    return [option for option in options() if option.name not in _LOCAL]


_WORDS = {
    ParameterSource.COMMANDLINE: "flag",
    ParameterSource.ENVIRONMENT: "environment",
    ParameterSource.DEFAULT_MAP: "file",
}


def printed(context: click.Context, given: dict[str, Any]) -> list[str]:
    """The settings as TOML, each with where it comes from; what has no value is a comment."""
    from adapters.settings import shown_value

    lines = []
    for option in settings():
        assert option.name is not None
        value = shown_value(option.name, given[option.name])
        source = context.get_parameter_source(option.name)
        word = _WORDS.get(source, "default") if source is not None else "default"
        if word == "environment":
            word = f"environment: {option.envvar}"
        if word == "file":
            word = f"file: {context.meta['netledger.config']}"
        if isinstance(value, tuple) and isinstance(option.type, Address):
            host, port = value
            value = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        key = _key(option.name)
        if value is None or value == ():
            lines.append(f"# {key} is not set")
        else:
            lines.append(f"{key} = {_toml(value)}  # {word}")
    return lines


def _toml(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, Path):
        value = str(value)
    return json.dumps(value, ensure_ascii=False)  # of texts, numbers and truth values, JSON and TOML write the same


def _check(settings: Any) -> None:
    from adapters import daemon

    wrong = 0
    for about, told, right in daemon.check(settings):
        show([f"[{'+' if right else '-'}]{about}: {told}"])
        wrong += not right
    if wrong:
        fail("it would not start so")
