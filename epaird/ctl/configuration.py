"""Commands about the configuration and the daemon as a whole: plan, reload, save and upgrade."""

from __future__ import annotations

import os
import sys

import click

from epaird.client.client import DaemonError
from epaird.ctl import show
from epaird.ctl.context import CHANGES, JSON, REFUSED, Context, complain, form_options


@click.command()
@click.argument("file", type=click.Path())
@form_options(*JSON)
@click.pass_obj
def plan(context: Context, file: str) -> int:
    """Show what a reload of FILE would do.

    Nothing is changed, and the daemon keeps its own file. Exit status: 0 nothing to do, 2 changes, 1 errors.
    """
    from pathlib import Path

    from epaird.config.bounds import MAX_BYTES

    name = click.format_filename(file)
    try:
        with sys.stdin.buffer if file == "-" else Path(file).open("rb") as source:
            content = source.read(MAX_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise click.ClickException(f"{name}: {os.strerror(error.errno or 0)}") from None
    except UnicodeDecodeError:
        raise click.ClickException(f"{name}: not UTF-8 text") from None
    if len(content) > MAX_BYTES:
        raise click.ClickException(f"{name}: is larger than {MAX_BYTES >> 20} MiB, the largest file allowed")
    return _planned(context, "plan", {"text": text, "name": name})


@click.command()
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@form_options(*JSON)
@click.pass_obj
def reload(context: Context, dry_run: bool) -> int:
    """Reload the daemon's configuration file.

    Differences are applied and shown; everything else is left alone. If the file has an error, nothing is
    changed. Exit status of --dry-run: 0 nothing to do, 2 changes, 1 errors.
    """
    status = _planned(context, "reload", {"dry_run": dry_run})
    return 0 if status == CHANGES and not dry_run else status


@click.command()
@click.pass_obj
def save(context: Context) -> None:
    """Print the running configuration.

    It includes interfaces that were created at runtime: epairctl save > /etc/epaird/epaird.toml"""
    show.write(context.daemon.configuration().removesuffix("\n"))


@click.command()
@click.pass_obj
def upgrade(context: Context) -> None:
    """Upgrade the running daemon in place.

    The daemon executes the program that is installed now and replaces its workers one by one. The cables
    keep forwarding, and no frame is lost."""
    context.daemon.upgrade()


def _planned(context: Context, place: str, body: object) -> int:
    """Request a plan and print it; return the exit status, CHANGES if it has any."""
    from epaird.client.plans import PlanReport
    from epaird.ctl import plans

    try:
        document = context.daemon.ask("POST", place, body=body)
        report = PlanReport.parse(document)
    except DaemonError as error:
        # A file may have many errors; each gets a line.
        for line in error.problems or (str(error),):
            complain(line)
        return REFUSED
    if context.form.json:
        context.write_json(document)
    elif sys.stdout.isatty():
        console = show.console()
        for line, colour in plans.coloured(report):
            console.print(line, style=colour, soft_wrap=True)
    else:
        show.write(plans.plain(report))
    return CHANGES if report.changes else 0
