"""Commands that create, show, change, patch and destroy interfaces."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from epaird.client.client import Client, DaemonError, selecting
from epaird.client.models import Interface, MissingInterface
from epaird.ctl import completion, show
from epaird.ctl.context import JSON, LINES, REFUSED, Context, complain, form_options
from epaird.ctl.selecting import ListOptions, selection_options
from epaird.ctl.show import Form

_name: Final = click.argument("name", shell_complete=completion.names)


@click.command()
@click.argument("name", shell_complete=completion.kinds)
@click.argument("settings", nargs=-1, metavar="[KEY=VALUE]...", shell_complete=completion.keys)
@click.option("-o", "options", multiple=True, metavar="KEY=VALUE", help="A setting; may be repeated.")
@form_options(*JSON)
@click.pass_obj
def create(context: Context, name: str, settings: tuple[str, ...], options: tuple[str, ...]) -> None:
    """Create an interface and print its name.

    Of a pair the first half's name is printed, as by ifconfig. NAME is a kind, epair or lo, for the lowest
    free number, or a name, epair7. Settings are those of the configuration: epairctl create epair a.netns=red
    b.mtu=9000
    """
    wanted = _settings((*options, *settings))
    if context.form.json:
        context.write_json(context.daemon.ask("POST", "interfaces", body={"name": name, "settings": wanted}))
    else:
        created = context.daemon.create_interface(name, wanted)
        show.write(created.devices[0] if created.devices else created.name)


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=completion.names)
@click.pass_obj
def destroy(context: Context, names: tuple[str, ...]) -> int:
    """Destroy interfaces.

    NAME is a loopback, a pair, or a half of a pair: both halves are destroyed."""
    status = 0
    for name in names:
        try:
            context.daemon.destroy(name)
        except DaemonError as error:
            complain(str(error))
            status = REFUSED
    return status


@click.command("list")
@click.argument("kind", required=False, shell_complete=completion.kinds)
@selection_options("Seconds between the two samples of --sort rate.")
@click.option("--missing", is_flag=True, help="Only what is in the configuration and does not exist.")
@form_options(*JSON, *LINES)
@click.pass_obj
def list_(context: Context, kind: str | None, chosen: ListOptions, missing: bool) -> None:
    """List all interfaces, or those of a kind.

    They are in the order of their kinds and numbers. Those that are in the configuration and do not exist
    have the state missing; show has the reason. With -j they are listed by --missing only."""
    daemon = context.daemon
    if missing:
        _list_missing(context, kind, chosen)
        return
    rank = chosen.rank(daemon)
    if context.form.json:
        query = selecting(kind, chosen.netns, drops=chosen.drops)
        found = daemon.ask("GET", "interfaces", query=query)
        context.write_json(sorted(found, key=lambda each: rank(each["device"])))
    else:
        listed = daemon.interfaces(kind, netns=chosen.netns, drops=chosen.drops)
        everything = listed if chosen.drops else _with_missing(listed, daemon, kind, chosen.netns)
        _list(sorted(everything, key=lambda each: rank(each.device)), context.form)


def _list_missing(context: Context, kind: str | None, chosen: ListOptions) -> None:
    if context.form.json:
        query = selecting(kind, chosen.netns, missing=True)
        context.write_json(context.daemon.ask("GET", "interfaces", query=query))
    else:
        _list(context.daemon.missing(kind, netns=chosen.netns), context.form)


def _with_missing(
    listed: Sequence[Interface], daemon: Client, kind: str | None, netns: str | None
) -> Sequence[Interface | MissingInterface]:
    """Return interfaces and those that are missing, in the order of kinds and numbers."""
    try:
        missing = daemon.missing(kind, netns=netns)
    except DaemonError:  # a daemon of version 0.2.0 does not list them
        return listed
    if not missing:
        return listed
    from epaird.names.cloners import order

    return sorted([*listed, *missing], key=lambda each: order(each.device))


@click.command("show")
@_name
@form_options(*JSON, *LINES)
@click.pass_obj
def show_(context: Context, name: str) -> None:
    """Show everything about an interface.

    The name of a pair shows both halves."""
    if context.form.json:
        context.write_json(context.daemon.ask("GET", "interfaces", name))
        return
    found = context.daemon.interface(name)
    if context.form.brief:
        _list(found, context.form)
    else:
        words = _impairments(context.daemon, name) if any(each.peer for each in found) else {}
        show.write("\n".join(show.details(each, context.form, words.get(each.device, "")) for each in found))


def _impairments(daemon: Client, name: str) -> dict[str, str]:
    """Return the impairment of what each half transmits, in words, of those that are impaired."""
    try:
        found = daemon.impairment(name).directions
    except DaemonError:  # it is gone, or the daemon is of version 0.4.0
        return {}
    if not any(each.impairment for each in found):
        return {}
    from epaird.ctl.lines import as_words

    return {each.device: as_words(each) for each in found}


@click.command("set")
@_name
@click.argument("settings", nargs=-1, required=True, metavar="KEY=VALUE...", shell_complete=completion.keys)
@click.pass_obj
def set_(context: Context, name: str, settings: tuple[str, ...]) -> None:
    """Change an interface in place.

    epairctl set epair0a mtu=9000 up=false; settings of a pair apply to both halves."""
    context.daemon.change(name, _settings(settings))


@click.command()
@form_options(*JSON)
@click.pass_obj
def cloners(context: Context) -> None:
    """List the kinds of interfaces that can be created.

    Like ifconfig -C."""
    found = context.daemon.cloners()
    if context.form.json:
        context.write_json(found)
    else:
        show.write(" ".join(found))


@click.command()
@_name
@click.argument("peer", shell_complete=completion.names)
@click.option("--force", is_flag=True, help="Patch even if PEER is patched to another half.")
@click.pass_obj
def patch(context: Context, name: str, peer: str, force: bool) -> None:
    """Patch a half to another one.

    Like re-plugging a cable: devices, addresses and MACs stay. Each of the two leaves its old peer."""
    context.daemon.patch(name, peer, force=force)


@click.command()
@_name
@click.pass_obj
def unpatch(context: Context, name: str) -> None:
    """Separate a half from its peer.

    Neither of the two has a carrier afterwards."""
    context.daemon.unpatch(name)


def _settings(words: Sequence[str]) -> dict[str, Any]:
    from epaird.ctl.settings import NotASetting, settings

    try:
        return settings(words)
    except NotASetting as error:
        raise click.UsageError(str(error)) from None


def _list(interfaces: Sequence[Interface | MissingInterface], form: Form) -> None:
    if form.brief:
        text = show.brief(interfaces)
    elif form.oneline:
        text = "\n".join(show.details(each, form) for each in interfaces)
    elif sys.stdout.isatty():
        show.console().print(show.listing_table(interfaces))
        return
    else:
        text = show.listing(interfaces)
    if text:
        show.write(text)
