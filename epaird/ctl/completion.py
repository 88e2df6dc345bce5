"""Completion in a shell. It never delays or disturbs the person who types."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import click

from epaird.client.client import Client, DaemonError
from epaird.ctl import show
from epaird.ctl.context import COMPLETE_VARIABLE, DEFAULT_SOCKET

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_TIMEOUT_S: Final = 0.5
"""Seconds to wait for the daemon after Tab is pressed."""
_SETTINGS: Final = ("mtu=", "up=", "carrier=", "txqueuelen=", "a.", "b.")


def names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the name of an interface or a pair."""
    found = _answer(context, "interfaces")
    return _items((name for each in found for name in (each["pair"], each["device"])), incomplete)


def kinds(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete a kind of interfaces."""
    return _items(_answer(context, "cloners"), incomplete)


def namespaces(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the namespace of an interface."""
    return _items((each["netns"] or "-" for each in _answer(context, "interfaces")), incomplete)


def keys(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the key of a setting."""
    return _items(_SETTINGS, incomplete)


def impairments(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the words of an impairment: its keys, some values, and other words of the command."""
    from click.shell_completion import CompletionItem

    from epaird.impairment.presets import SHIPPED
    from epaird.impairment.words import KEYS
    from epaird.ipc.impairment import DISTRIBUTIONS

    before = context.params.get("words") or ()
    values = {
        "distribution": DISTRIBUTIONS,
        "queue": ("droptail", "codel"),
        "ecn": ("true", "false"),
        "loss": ("gemodel",),
        "preset": tuple(SHIPPED),
    }
    last = before[-1] if before else ""
    if last == "replay":
        return [CompletionItem(incomplete, type="file")]
    if last in values:
        return _items(values[last], incomplete)
    return _items((*(() if before else ("off", "log", "replay")), "for", *KEYS), incomplete)


def _answer(context: click.Context, place: str) -> list[Any]:
    """Return a list from the daemon; empty if it does not answer quickly."""
    root = context.find_root()
    path = root.params.get("socket") or os.environ.get("EPAIRD_SOCKET") or DEFAULT_SOCKET
    with suppress(DaemonError):
        found: list[Any] = Client(path).ask("GET", place, timeout_s=_TIMEOUT_S)
        return found
    return []


def _items(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    found = dict.fromkeys(word for word in words if word and word.startswith(incomplete))
    return [CompletionItem(word) for word in found]


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a shell's completion script.

    \b
    bash: put into ~/.bashrc:   eval "$(epairctl completion bash)"
    zsh:  put into ~/.zshrc:    eval "$(epairctl completion zsh)"
    fish: epairctl completion fish > ~/.config/fish/completions/epairctl.fish
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    if found is not None:
        show.write(found(context.find_root().command, {}, "epairctl", COMPLETE_VARIABLE).source())
