"""``epairctl``: controls a running daemon.

The module of a command is imported when the command runs, and rich only for a terminal, so that every command
starts quickly however many there are.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from importlib import import_module
from typing import Final

import click

from epaird import __version__
from epaird.client.client import DaemonError
from epaird.ctl.context import (
    COMPLETE_VARIABLE,
    DEFAULT_SOCKET,
    JSON,
    LINES,
    REFUSED,
    Context,
    complain,
    form_options,
)
from epaird.ctl.show import OutputClosed
from epaird.kernel.printable import escape_unencodable

INTERRUPTED: Final = 130
"""Exit status after Ctrl-C, as a shell reports SIGINT."""
PIPE_BROKEN: Final = 141
"""Exit status when the reader of the output is gone, as a shell reports SIGPIPE."""

_EPILOG: Final = (
    "NAME is an interface's own name, epair0a, or a pair's, epair0. Shell completion: put "
    "'eval \"$(epairctl completion bash)\"' into ~/.bashrc; see 'epairctl completion --help'."
)

_COMMANDS: Final = {
    "cloners": "interfaces:cloners",
    "completion": "completion:completion",
    "create": "interfaces:create",
    "destroy": "interfaces:destroy",
    "impair": "impairing:impair",
    "list": "interfaces:list_",
    "monitor": "watch:monitor",
    "patch": "interfaces:patch",
    "plan": "configuration:plan",
    "reload": "configuration:reload",
    "save": "configuration:save",
    "set": "interfaces:set_",
    "show": "interfaces:show_",
    "stats": "watch:stats",
    "unpatch": "interfaces:unpatch",
    "upgrade": "configuration:upgrade",
    "workers": "workers:workers",
}
"""Module of epaird.ctl and function of each command."""


class _Commands(MutableMapping[str, click.Command]):
    """Commands by name, each imported when it is looked up."""

    def __init__(self) -> None:
        self._found: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in self._found:
            module, _, function = _COMMANDS[name].partition(":")
            self._found[name] = getattr(import_module(f"epaird.ctl.{module}"), function)
        return self._found[name]

    def __setitem__(self, name: str, command: click.Command) -> None:
        self._found[name] = command

    def __delitem__(self, name: str) -> None:
        del self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMANDS)

    def __len__(self) -> int:
        return len(_COMMANDS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; an error prints one line on stderr."""
    codecs.register_error("printable", escape_unencodable)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # the terminal's encoding may lack a character of a name
            stream.reconfigure(errors="printable")
    try:
        status = epairctl.main(
            arguments, prog_name="epairctl", complete_var=COMPLETE_VARIABLE, standalone_mode=False
        )
    except DaemonError as error:
        complain(str(error))
        return REFUSED
    except click.ClickException as error:
        complain(" ".join(error.format_message().split()))
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except OutputClosed:
        # Python flushes the buffer when it ends, which must not fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_BROKEN
    return status if isinstance(status, int) else 0


@click.group(
    commands=_Commands(),
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
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
@form_options(*JSON, *LINES)
@click.pass_context
def epairctl(context: click.Context, socket: str) -> None:
    """Control a running epaird: create, show, change and destroy its interfaces."""
    context.ensure_object(Context).socket = socket
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
