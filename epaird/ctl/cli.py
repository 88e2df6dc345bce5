"""``epairctl``: controls a running daemon.

What only some commands need is imported when they run, so that a command is over at once.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from epaird import __version__
from epaird.client.client import Client, Failed
from epaird.ctl import show
from epaird.ctl.show import Form, NobodyReads

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

DEFAULT_SOCKET: Final = "/run/epaird/control.sock"
REFUSED: Final = 1
"""Exit status: the daemon could not be asked, or would not."""
CHANGES: Final = 2
"""Exit status: a plan has something in it."""
INTERRUPTED: Final = 130
"""Exit status: Ctrl-C, as a shell reports SIGINT."""
PIPE_BROKEN: Final = 141
"""Exit status: nobody reads our output any more, as a shell reports SIGPIPE."""

_COMPLETE: Final = "_EPAIRCTL_COMPLETE"
_COMPLETION_S: Final = 0.5
"""Seconds that a person who presses Tab may wait."""
_SETTINGS: Final = ("mtu=", "up=", "carrier=", "txqueuelen=", "a.", "b.")
_EPILOG: Final = (
    "NAME is an interface's own name, epair0a, or a pair's, epair0.  Shell completion: put "
    "'eval \"$(epairctl completion bash)\"' into ~/.bashrc; see 'epairctl completion --help'."
)

_Command = TypeVar("_Command", bound=Callable[..., Any])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; a mistake costs one line on stderr."""
    try:
        status = epairctl.main(arguments, prog_name="epairctl", complete_var=_COMPLETE, standalone_mode=False)
    except Failed as error:
        _complain(str(error))
        return REFUSED
    except click.ClickException as error:
        _complain(" ".join(error.format_message().split()))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except NobodyReads:
        # Whatever is still in the buffer must not fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_BROKEN
    return status if isinstance(status, int) else 0


def _complain(line: str) -> None:
    click.echo(f"epairctl: {line}", err=True)


class _Context:
    """What every command knows."""

    def __init__(self) -> None:
        self.form = Form()
        self.socket = DEFAULT_SOCKET

    @property
    def daemon(self) -> Client:
        """The daemon to ask."""
        return Client(self.socket, _waiting)


def _waiting() -> None:
    if sys.stderr.isatty():
        click.echo("waiting for the daemon to answer", err=True)


def _looks(*options: tuple[str, str, str]) -> Callable[[_Command], _Command]:
    """Options for how answers look; each sets one field of the Form, before the command or after it."""

    def set_it(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value and parameter.name is not None:
            setattr(context.ensure_object(_Context).form, parameter.name, True)

    def add(command: _Command) -> _Command:
        for short, name, told in reversed(options):
            option = click.option(
                short, f"--{name}", name, is_flag=True, expose_value=False, callback=set_it, help=told
            )
            command = option(command)
        return command

    return add


_JSON: Final = (("-j", "json", "JSON."), ("-p", "pretty", "With -j: JSON for people."))
_LINES: Final = (("-o", "oneline", "One line for each."), ("-br", "brief", "Only the most important."))


def _names(context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Names that the daemon knows, for the shell's completion."""
    found = _asked_quickly(context, "interfaces")
    return _completed((name for each in found for name in (each["pair"], each["device"])), begun)


def _kinds(context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Kinds of interfaces, for the shell's completion."""
    return _completed(_asked_quickly(context, "cloners"), begun)


def _asked_quickly(context: click.Context, place: str) -> list[Any]:
    """A list that the daemon has; empty when it cannot be asked quickly."""
    root = context.find_root()
    path = root.params.get("socket") or os.environ.get("EPAIRD_SOCKET") or DEFAULT_SOCKET
    with suppress(Failed):
        found: list[Any] = Client(path).ask("GET", place, patience=_COMPLETION_S)
        return found
    return []


def _completed(words: Iterable[str], begun: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    found = dict.fromkeys(word for word in words if word and word.startswith(begun))
    return [CompletionItem(word) for word in found]


def _keys(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    return _completed(_SETTINGS, begun)


_name: Final = click.argument("name", shell_complete=_names)


@click.group(
    epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True
)
@click.version_option(__version__, prog_name="epairctl", message="%(prog)s %(version)s")
@click.option(
    "--socket",
    envvar="EPAIRD_SOCKET",
    show_envvar=True,
    default=DEFAULT_SOCKET,
    show_default=True,
    metavar="PATH",
    help="The daemon's control socket.",
)
@_looks(*_JSON, *_LINES)
@click.pass_context
def epairctl(context: click.Context, socket: str) -> None:
    """Control a running epaird: make, change, look at and destroy its interfaces."""
    context.ensure_object(_Context).socket = socket
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@epairctl.command()
@click.argument("name", shell_complete=_kinds)
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=_keys)
@click.option("-o", "options", multiple=True, metavar="KEY=VALUE", help="A setting; may be repeated.")
@_looks(*_JSON)
@click.pass_obj
def create(context: _Context, name: str, settings: tuple[str, ...], options: tuple[str, ...]) -> None:
    """Make an interface, print its name.

    NAME is a kind, epair or lo, for the lowest free number, or a name, epair7.  Settings are those of the
    configuration: epairctl create epair a.netns=red b.mtu=9000
    """
    body = {"name": name, "settings": _settings((*options, *settings))}
    made = context.daemon.ask("POST", "interfaces", body=body)
    show.write(show.document(made, context.form) if context.form.json else made["name"])


@epairctl.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=_names)
@click.pass_obj
def destroy(context: _Context, names: tuple[str, ...]) -> int:
    """Destroy interfaces.

    NAME is a loopback's, a pair's, or one of its halves': both halves go."""
    status = 0
    for name in names:
        try:
            context.daemon.ask("DELETE", "interfaces", name)
        except Failed as error:
            _complain(str(error))
            status = REFUSED
    return status


@epairctl.command("list")
@click.argument("kind", required=False, shell_complete=_kinds)
@_looks(*_JSON, *_LINES)
@click.pass_obj
def list_(context: _Context, kind: str | None) -> None:
    """List interfaces: all, or those of a kind."""
    from urllib.parse import urlencode

    query = urlencode({"kind": kind}, errors="surrogateescape") if kind is not None else ""
    _show(context.daemon.ask("GET", "interfaces", query=query), context.form)


@epairctl.command("show")
@_name
@_looks(*_JSON, *_LINES)
@click.pass_obj
def show_(context: _Context, name: str) -> None:
    """Show everything about an interface.

    Of a pair, about both halves."""
    found = context.daemon.ask("GET", "interfaces", name)
    if context.form.json or context.form.brief:
        _show(found, context.form)
    else:
        show.write("\n".join(show.details(each, context.form) for each in found))


@epairctl.command("set")
@_name
@click.argument("settings", nargs=-1, required=True, metavar="KEY=VALUE...", shell_complete=_keys)
@click.pass_obj
def set_(context: _Context, name: str, settings: tuple[str, ...]) -> None:
    """Change an interface in place.

    epairctl set epair0a mtu=9000 up=false; what is set for a pair both halves get."""
    context.daemon.ask("PATCH", "interfaces", name, body=_settings(settings))


@epairctl.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=_names)
@click.option("-w", "--watch", is_flag=True, help="Rates, again and again, until Ctrl-C.")
@click.option(
    "-i",
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    help="Seconds between two looks of -w.",
)
@_looks(*_JSON, *_LINES)
@click.pass_obj
def stats(context: _Context, names: tuple[str, ...], watch: bool, interval: float) -> None:
    """Show counters, or with -w rates.

    What interfaces have sent (o) and got (i), from their owners' viewpoint."""
    if watch:
        _watch(_looks_at(context.daemon, names, interval), context.form)
        return
    answer = _statistics(context.daemon, names)
    form = context.form
    show.write(show.document(answer["interfaces"], form) if form.json else show.statistics(answer, form))


@epairctl.command()
@_looks(*_JSON)
@click.pass_obj
def cloners(context: _Context) -> None:
    """List the kinds that can be made.

    As ifconfig -C does."""
    found = context.daemon.ask("GET", "cloners")
    show.write(show.document(found, context.form) if context.form.json else " ".join(found))


@epairctl.command()
@_looks(*_JSON, *_LINES)
@click.pass_obj
def monitor(context: _Context) -> None:
    """Print events as they happen.

    Until Ctrl-C, or the daemon's end."""
    form = context.form
    colours = _console() if not form.json and sys.stdout.isatty() else None
    for event in context.daemon.events():
        if form.json:
            show.write(show.document(event, form))
            continue
        clock, words, colour = show.event(event)
        if colours is None:
            show.write(words if form.brief else f"{clock} {words}")
        else:
            from rich.text import Text

            colours.print(Text.assemble((clock + " ", "dim"), (words, colour)), soft_wrap=True)


@epairctl.command()
@_name
@click.argument("peer", shell_complete=_names)
@click.option("--force", is_flag=True, help="Also when PEER is plugged into another.")
@click.pass_obj
def patch(context: _Context, name: str, peer: str, force: bool) -> None:
    """Plug a half into another one.

    As one re-plugs a cable: devices, addresses and MACs stay.  Each of the two leaves its old peer."""
    context.daemon.ask("PUT", "interfaces", name, "peer", body={"peer": peer, "force": force})


@epairctl.command()
@_name
@click.pass_obj
def unpatch(context: _Context, name: str) -> None:
    """Unplug a half.

    Neither it nor its peer has a carrier then."""
    context.daemon.ask("DELETE", "interfaces", name, "peer")


@epairctl.command()
@click.pass_obj
def upgrade(context: _Context) -> None:
    """Have the daemon go on with the program as it is installed now.

    It executes itself again, and then replaces its workers one by one.  The cables go on carrying, and not
    a frame is lost."""
    context.daemon.ask("POST", "upgrade")


@epairctl.command()
@click.argument("file", type=click.Path())
@_looks(*_JSON)
@click.pass_obj
def plan(context: _Context, file: str) -> int:
    """Show what a reload of FILE would do.

    The daemon's own file stays as it is, and so does everything else.  Exit status: 0 nothing to do, 2
    changes, 1 errors.
    """
    try:
        text = (sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()).decode()
    except OSError as error:
        raise Failed(f"{click.format_filename(file)}: {os.strerror(error.errno or 0)}") from None
    except UnicodeDecodeError:
        raise Failed(f"{click.format_filename(file)}: not UTF-8 text") from None
    body = {"text": text, "name": click.format_filename(file)}
    return _planned(context, "plan", body)


@epairctl.command()
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@_looks(*_JSON)
@click.pass_obj
def reload(context: _Context, dry_run: bool) -> int:
    """Have the daemon read its file again.

    What is different is applied and shown, the rest is not touched; nothing at all when something is wrong
    with the file.  Exit status of --dry-run: 0 nothing to do, 2 changes, 1 errors.
    """
    status = _planned(context, "reload", {"dry_run": dry_run})
    return 0 if status == CHANGES and not dry_run else status


@epairctl.command()
@click.pass_obj
def save(context: _Context) -> None:
    """Print the configuration that would make what there is.

    What was made by create is in it: epairctl save > /etc/epaird/epaird.toml"""
    show.write(context.daemon.text("configuration").removesuffix("\n"))


def _planned(context: _Context, place: str, body: object) -> int:
    """Ask for a plan and show it; the exit status that tells whether there is anything in it."""
    from epaird.ctl import plans

    form = context.form
    try:
        told = context.daemon.ask("POST", place, body=body)
    except Failed as error:
        # A file may have many mistakes, and each is worth a line.
        for line in error.problems or (str(error),):
            _complain(line)
        return REFUSED
    if form.json:
        show.write(show.document(told, form))
    elif sys.stdout.isatty():
        console = _console()
        for line, colour in plans.coloured(plans.actions(told)):
            console.print(line, style=colour, soft_wrap=True)
    else:
        show.write(plans.plain(plans.actions(told)))
    return CHANGES if told["changes"] else 0


@epairctl.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a shell's completion script.

    \b
    bash: put into ~/.bashrc:   eval "$(epairctl completion bash)"
    zsh:  put into ~/.zshrc:    eval "$(epairctl completion zsh)"
    fish: epairctl completion fish > ~/.config/fish/completions/epairctl.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is not None:
        show.write(found(epairctl, {}, "epairctl", _COMPLETE).source())


def _settings(words: Sequence[str]) -> dict[str, Any]:
    from epaird.ctl.settings import NotASetting, settings

    try:
        return settings(words)
    except NotASetting as error:
        raise click.UsageError(str(error)) from None


def _show(interfaces: list[dict[str, Any]], form: Form) -> None:
    if form.json:
        show.write(show.document(interfaces, form))
    elif form.brief:
        _write(show.brief(interfaces))
    elif form.oneline:
        _write("\n".join(show.details(each, form) for each in interfaces))
    elif sys.stdout.isatty():
        _console().print(show.listing_table(interfaces))
    else:
        show.write(show.listing(interfaces))


def _write(text: str) -> None:
    if text:
        show.write(text)


def _statistics(daemon: Client, names: tuple[str, ...]) -> dict[str, Any]:
    """The counters, of these interfaces or of all."""
    if not names:
        found: dict[str, Any] = daemon.ask("GET", "stats")
        return found
    wanted = {each["device"] for name in names for each in daemon.ask("GET", "interfaces", name)}
    found = daemon.ask("GET", "stats")
    return {**found, "interfaces": [each for each in found["interfaces"] if each["device"] in wanted]}


def _looks_at(daemon: Client, names: tuple[str, ...], interval: float) -> Iterator[dict[str, Any]]:
    """Rates of interfaces, by name, again and again."""
    from epaird.ctl.rates import rates

    before = _statistics(daemon, names)
    while True:
        time.sleep(interval)
        after = _statistics(daemon, names)
        yield rates(before, after)
        before = after


def _watch(looks: Iterator[Mapping[str, Mapping[str, float]]], form: Form) -> None:
    if form.json:
        for each in looks:
            show.write(show.document(each, form))
    elif not sys.stdout.isatty():
        for each in looks:
            show.write(show.columns(show.flow_rows(each), 1))
    else:
        from rich.live import Live

        with Live(console=_console(), auto_refresh=False, screen=False) as live:
            for each in looks:
                live.update(show.flow_table(each), refresh=True)


def _console() -> Any:  # noqa: ANN401 - rich is not imported yet
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)
