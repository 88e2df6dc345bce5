"""``epairctl``: controls a running daemon.

Modules that only some commands need are imported when those run, so that every command starts quickly.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from epaird import __version__
from epaird.client.client import DaemonError
from epaird.ctl import completion, configuration, interfaces, watch
from epaird.ctl.context import DEFAULT_SOCKET, JSON, LINES, REFUSED, Context, complain, form_options
from epaird.ctl.show import OutputClosed

INTERRUPTED: Final = 130
"""Exit status after Ctrl-C, as a shell reports SIGINT."""
PIPE_BROKEN: Final = 141
"""Exit status when the reader of the output is gone, as a shell reports SIGPIPE."""

_EPILOG: Final = (
    "NAME is an interface's own name, epair0a, or a pair's, epair0. Shell completion: put "
    "'eval \"$(epairctl completion bash)\"' into ~/.bashrc; see 'epairctl completion --help'."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; an error prints one line on stderr."""
    try:
        status = epairctl.main(
            arguments, prog_name="epairctl", complete_var=completion.VARIABLE, standalone_mode=False
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
@form_options(*JSON, *LINES)
@click.pass_context
def epairctl(context: click.Context, socket: str) -> None:
    """Control a running epaird: create, show, change and destroy its interfaces."""
    context.ensure_object(Context).socket = socket
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for _command in (
    interfaces.create,
    interfaces.destroy,
    interfaces.list_,
    interfaces.show_,
    interfaces.set_,
    interfaces.cloners,
    interfaces.patch,
    interfaces.unpatch,
    watch.stats,
    watch.monitor,
    configuration.plan,
    configuration.reload,
    configuration.save,
    configuration.upgrade,
    completion.completion,
):
    epairctl.add_command(_command)
