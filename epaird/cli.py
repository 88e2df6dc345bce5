"""The command line: ``epaird run`` and ``epaird check``.

What a command needs is imported when it runs, so that ``check`` and ``--version`` start at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from epaird import __version__

if TYPE_CHECKING:
    from epaird.configuration import Configuration

DEFAULT_CONFIG: Final = Path("/etc/epaird/epaird.toml")
PROBLEMS: Final = 1
"""Exit status: the configuration cannot be used."""
INTERRUPTED: Final = 130
"""Exit status: Ctrl-C, as a shell reports SIGINT."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; a mistake costs one line on stderr."""
    try:
        status = epaird.main(arguments, prog_name="epaird", standalone_mode=False)
    except click.ClickException as error:
        _complain("epaird: " + " ".join(error.format_message().split()))
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    return status if isinstance(status, int) else 0


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="epaird", message="%(prog)s %(version)s")
@click.pass_context
def epaird(context: click.Context) -> None:
    """A virtual patch cable you can see into.

    Joins network namespaces by pairs of Ethernet interfaces, as FreeBSD's epair(4) does, and counts
    every frame for Prometheus.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@epaird.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIG,
    show_default=True,
    metavar="FILE",
    help="The configuration, TOML.",
)
def run(config: Path) -> int:
    """Make what the configuration says and forward until told to stop."""
    configuration = _load(config)
    if configuration is None:
        return PROBLEMS
    from epaird.control.daemon import run as run_daemon

    return run_daemon(configuration)


@epaird.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> int:
    """Check a configuration, and say every problem that it has."""
    configuration = _load(file)
    if configuration is None:
        return PROBLEMS
    from epaird.configuration import quoted_path, remarks

    pairs = len(configuration.epair)
    click.echo(f"{quoted_path(file)}: ok, {pairs} {'pair' if pairs == 1 else 'pairs'}")
    for remark in remarks(configuration):
        click.echo(f"note: {remark}")
    return 0


def _load(file: Path) -> Configuration | None:
    """The configuration, or None after every problem has been said."""
    from epaird.configuration import InvalidConfiguration, load

    try:
        return load(file)
    except InvalidConfiguration as error:
        for problem in error.problems:
            _complain(problem)
        return None


def _complain(line: str) -> None:
    click.echo(line, err=True)
