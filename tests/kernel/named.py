"""Operations in a namespace that a test gives by its name."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from epaird.kernel import link, namespace
from epaird.kernel.location import Location
from epaird.kernel.tun import Tap

T = TypeVar("T")


def at(netns: str, function: Callable[..., T], *arguments: object, **keywords: object) -> T:
    """Call a function with a namespace as its ``netns``."""
    with namespace.opened(netns) as found:
        return function(*arguments, netns=found, **keywords)


@contextlib.contextmanager
def within(netns: str) -> Iterator[None]:
    """Enter a namespace for the block."""
    with namespace.opened(netns) as found, namespace.inside(found):
        yield


def placed(tap: Tap, name: str, netns: str | None, *, device: str | None = None) -> int:
    """Move a new device and return its new index."""
    location = Location(device or tap.name, tap.fds[0], tap.index, namespace.identity(None))
    if netns is None:
        return link.place(location, name, None)
    with namespace.opened(netns) as target:
        return link.place(location, name, target)
