"""The base class of operations."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from tests.soak.expected import Expected
from tests.soak.site import Site


class Operation:
    """One operation; ``str()`` describes it in a line."""

    may_lose_frames = False
    """True if it may lose frames of the steady traffic, all of which are counted."""
    restarts_uncertain = False
    """True if it may have killed a worker that was about to end anyway."""
    new_control_plane = False
    """True if another control plane takes over and applies the file."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return its name in the counts of the report: its class in words."""
        return (re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(self).__name__).lower(),)

    def act(self, site: Site) -> None:
        """Do it and wait until it is done. Raises AssertionError on failure."""
        raise NotImplementedError

    def expect(self, expected: Expected) -> None:
        """Change the expected state."""

    def retry(self, site: Site) -> None:
        """Do it again after an attempt whose success is unknown."""
        self.act(site)


Draw = Callable[[Random, Expected], Operation | None]
"""Draws an operation of one kind; None if there is nothing to apply it to."""
