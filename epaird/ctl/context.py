"""Options, messages and exit statuses that the commands of ``epairctl`` share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from epaird.client.client import Client
from epaird.ctl import show
from epaird.ctl.show import Form
from epaird.kernel.printable import one_line

DEFAULT_SOCKET: Final = "/run/epaird/control.sock"
COMPLETE_VARIABLE: Final = "_EPAIRCTL_COMPLETE"
"""Environment variable by which a shell requests completion."""
REFUSED: Final = 1
"""Exit status: the daemon cannot be reached, or it refused."""
CHANGES: Final = 2
"""Exit status: a plan has changes."""

Command = TypeVar("Command", bound=Callable[..., Any])


class Context:
    """Options that every command has."""

    def __init__(self) -> None:
        self.form = Form()
        """Form in which answers are printed."""
        self.socket = DEFAULT_SOCKET
        """Path of the control socket."""

    @property
    def daemon(self) -> Client:
        """A client of the daemon."""
        return Client(self.socket, _waiting)

    def write_json(self, value: object) -> None:
        """Write the daemon's answer as it is."""
        show.write(show.document(value, self.form))


def complain(line: str) -> None:
    """Write an error message."""
    click.echo(f"epairctl: {one_line(line)}", err=True)


def _waiting() -> None:
    if sys.stderr.isatty():
        click.echo("waiting for the daemon to answer", err=True)


def form_options(*options: tuple[str, str, str]) -> Callable[[Command], Command]:
    """Add options that each set a field of the Form, whether they come before the command or after it."""

    def set_it(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        if value:
            setattr(context.ensure_object(Context).form, str(parameter.name), True)

    def add(command: Command) -> Command:
        for short, name, help_text in reversed(options):
            option = click.option(
                short, f"--{name}", name, is_flag=True, expose_value=False, callback=set_it, help=help_text
            )
            command = option(command)
        return command

    return add


JSON: Final = (("-j", "json", "Print JSON."), ("-p", "pretty", "With -j: indent it."))
LINES: Final = (
    ("-o", "oneline", "Print one line for each interface."),
    ("-br", "brief", "Print only the main values."),
)
