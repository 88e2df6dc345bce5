"""One thing that is done."""

from __future__ import annotations

from tests.soak.expected import Expected
from tests.soak.site import Site


class Operation:
    """One thing that is done; ``str()`` says what, in a line."""

    may_lose_frames = False
    """It may lose frames of traffic that is none of its business, which counters say then."""
    restarts_uncertain = False
    """It may have killed a worker that would have ended anyway."""
    new_control_plane = False
    """Another control plane takes over, and applies the file."""

    def act(self, site: Site) -> None:
        """Do it; returns once it is done.  Raises AssertionError when it cannot be done."""
        raise NotImplementedError

    def expect(self, expected: Expected) -> None:
        """What has to be once it is done."""

    def again(self, site: Site) -> None:
        """Do it, where nobody knows whether it was done."""
        self.act(site)
