"""The command line: ``epaird run``, ``epaird check`` and ``epaird bench``.

Each command imports its modules when it runs, so that ``check`` and ``--version`` start at once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from epaird import __version__, startup

if TYPE_CHECKING:
    from epaird.config.reading import ConfigurationFile
    from epaird.config.settings import Configuration

DEFAULT_CONFIG: Final = Path("/etc/epaird/epaird.toml")
PROBLEMS: Final = 1
"""Exit status: the configuration cannot be used."""
INTERRUPTED: Final = 130
"""Exit status: Ctrl-C, as a shell reports SIGINT."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status; a usage error is reported in one line on stderr."""
    startup.open_standard_descriptors()
    try:
        status = epaird.main(arguments, prog_name="epaird", standalone_mode=False)
    except click.ClickException as error:
        _report("epaird: " + " ".join(error.format_message().split()))
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
    help="The configuration file, TOML.",
)
def run(config: Path) -> int:
    """Create the configured interfaces and forward frames until stopped."""
    startup.defer_signals()
    file = _read(config)
    if file is None:
        return PROBLEMS
    from epaird.control.handover.reexec import CHECK_ONLY
    from epaird.control.reloading.inforce import Source
    from epaird.control.running import run as run_daemon

    if os.environ.get(CHECK_ONLY):
        return 0
    return run_daemon(file.configuration, Source(config.absolute(), file.sha256))


@epaird.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> int:
    """Check a configuration and report every error in it."""
    found = _read(file)
    if found is None:
        return PROBLEMS
    from epaird.config.reading import quoted_path, remarks

    configuration = found.configuration
    if problems := (*_misplaced(configuration), *_traces(configuration, file)):
        for problem in problems:
            _report(problem)
        return PROBLEMS
    pairs = len(configuration.epair)
    click.echo(f"{quoted_path(file)}: ok, {pairs} {'pair' if pairs == 1 else 'pairs'}")
    for remark in (*remarks(configuration), *_shortage(configuration)):
        click.echo(f"note: {remark}")
    return 0


@epaird.command()
@click.option(
    "--part",
    type=click.Choice(["cable", "impairment"]),
    default="cable",
    show_default=True,
    help="What to measure: a cable beside veth, or what impairments cost and how exact they are.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1, 100),
    metavar="N",
    help="Number of rounds, each with every figure.  [default: 5]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 60),
    metavar="S",
    help="Seconds for each figure in each round.  [default: 0.4; impairment: 0.8]",
)
@click.option("--quick", is_flag=True, help="Measure fewer figures, in 2 rounds.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Write the plot, SVG.")
@click.option(
    "--json", "figures", type=click.Path(path_type=Path), metavar="FILE", help="Write every figure, JSON."
)
def bench(
    part: str,
    rounds: int | None,
    seconds: float | None,
    quick: bool,
    plot: Path | None,
    figures: Path | None,
) -> int:
    """Compare a cable with the kernel's own, veth, on this machine, or with itself impaired.

    Builds both in turn, between network namespaces of its own, and compares datagrams, TCP, round trips
    and CPU. It touches nothing else, takes less than two minutes and leaves nothing behind. The part
    impairment takes three: it compares a cable with and without delay and loss, and measures the error of
    delays and rates.
    """
    from epaird.bench.run import run as run_bench

    if part == "impairment":
        from epaird.bench import impairplan

        impaired = impairplan.quick_impairment if quick else impairplan.thorough_impairment
        return run_bench(impaired(rounds, seconds), plot=plot, figures=figures)
    from epaird.bench import plan

    compared = plan.quick if quick else plan.thorough
    return run_bench(compared(rounds, seconds), plot=plot, figures=figures)


def _read(file: Path) -> ConfigurationFile | None:
    """Return the file, or None after every error in it has been reported."""
    from epaird.config.reading import InvalidConfiguration, read

    try:
        return read(file)
    except InvalidConfiguration as error:
        for problem in error.problems:
            _report(problem)
        return None


def _misplaced(configuration: Configuration) -> Iterator[str]:
    """Yield a line for each namespace whose path leads to something else now; it need not exist."""
    from epaird.config.values import dotted
    from epaird.kernel.printable import raw

    nsfs = Path("/proc/self/ns/net").stat().st_dev
    for each in configuration.interfaces:
        if each.namespace and each.namespace not in configuration.namespaces.create:
            path = Path("/run/netns", os.fsdecode(raw(each.namespace)))
            with contextlib.suppress(OSError):
                if path.stat().st_dev != nsfs:
                    place = dotted((*each.location, "netns"))
                    yield f"{place}: {each.namespace}: is not a network namespace"


def _traces(configuration: Configuration, file: Path) -> Iterator[str]:
    """Yield a line for each trace that cannot be read."""
    from epaird.config.impairments import traces
    from epaird.config.tracefiles import UnusableTrace, read
    from epaird.config.values import dotted
    from epaird.impairment.traces import located

    for place, trace in traces(configuration):
        try:
            read(located(trace, file))
        except UnusableTrace as error:
            yield f"{dotted(place)}: {error}"


def _shortage(configuration: Configuration) -> list[str]:
    """Return a line if a daemon that is started as this process was would have too few descriptors."""
    from epaird.control.machine.descriptors import hard_limit, required, shortage

    return shortage(required(configuration), hard_limit())


def _report(line: str) -> None:
    from epaird.control.logs import error_prefix

    click.echo(error_prefix() + line, err=True)
