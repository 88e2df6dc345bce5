"""A receiver that takes nothing for a while, and what happens to frames that wait for it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.scenarios.namespaces import Namespace
from tests.scenarios.transfers import RawSocket, frame
from tests.soak.expected import Expected, Half, Pair, words
from tests.soak.operations.failures import WorkersDie
from tests.soak.operations.namespaces import WithSomethingBetween
from tests.soak.site import Site
from tests.waiting import until

NAME: Final = "epair61"
"""The pair whose b is stuck; it stays, unless it is destroyed while frames wait."""
_SENDER: Final = f"{NAME}a"
_RECEIVER: Final = f"{NAME}b"
_PAIR: Final = Pair(Half("$green"), Half("$white", sndbuf=4096))
_FRAMES: Final = 900
"""Frames sent: more than the quota of the largest ``queue_limit``, so that some stay in the ring."""
_NEIGHBOUR: Final = bytes.fromhex("02f00d000001")
"""An address that the bridge does not know: it forwards the frame itself, which is charged to ``sndbuf``."""
_SLOW: Final = "tbf rate 64bit burst 1100 limit 4mb"
_FAST: Final = "tbf rate 1gbit burst 4mb limit 4mb"

WHILE_WAITING: Final = (
    "nothing",
    "ip link set a down, up",
    "set a up=false, up=true",
    "ip link set b down, up",
    "set b up=false, up=true",
    "set offload=false, offload=true",
    "set sndbuf",
    "destroy",
)


@dataclass(frozen=True, slots=True)
class ReceiverStuck(WithSomethingBetween):
    """A half behind a bridge with a slow port takes nothing; something happens while frames wait for it in
    the worker's queue and in the sender's ring, and then it takes frames again."""

    what: str
    """One of ``WHILE_WAITING``."""

    def __str__(self) -> str:
        return self.described(f"{_RECEIVER} stuck, {self.what}")

    def act(self, site: Site) -> None:
        site.ctl("create", NAME, *words(_PAIR))
        site.wait_until_saved(NAME)
        with _slow_bridge(site) as speed_up:
            with RawSocket(site.lab["green"], _SENDER) as sender:
                for number in range(_FRAMES):
                    sender.send(frame(0x88B5, 1000, to=_NEIGHBOUR, number=number))
            until(lambda: site.daemon.metrics().blocked(_SENDER), site.recent)
            self.do_between(site)
            # A killed worker lost what it held: its successor reads on until its queue is full.
            until(lambda: site.daemon.metrics().blocked(_SENDER), site.recent)
            self._disturb(site)
            speed_up()
            if self.what != "destroy":
                until(lambda: site.interface(_SENDER)["refs"] == 1, site.recent)
        self._check_counters(site)

    def _disturb(self, site: Site) -> None:
        green, white = site.lab["green"], site.lab["white"]
        match self.what:
            case "ip link set a down, up":
                _down_and_up(green, _SENDER)
            case "ip link set b down, up":
                _down_and_up(white, _RECEIVER)
            case "set a up=false, up=true" | "set b up=false, up=true" as found:
                half = NAME + found[4]
                site.ctl("set", half, "up=false")
                # The worker acts within 0.1 s; a half that is up again before that has lost nothing.
                until(lambda: _flushed(site) + _dropped(site) > 0, site.recent)
                site.ctl("set", half, "up=true")
            case "set offload=false, offload=true":
                site.ctl("set", NAME, "offload=false")
                site.ctl("set", NAME, "offload=true")
            case "set sndbuf":
                site.ctl("set", _RECEIVER, "sndbuf=8192")
                site.ctl("set", _RECEIVER, "sndbuf=4096")
            case "destroy":
                site.ctl("destroy", NAME)

    def _check_counters(self, site: Site) -> None:
        """Check what the disturbance is expected to drop, and that nothing else was dropped."""
        if self.what == "destroy":
            return
        flushed, dropped = _flushed(site), _dropped(site)
        lost = site.interface(_RECEIVER)["stats"]["ierrors"]["worker_lost"]
        found = f"{flushed} flushed, {dropped} dropped by a receiver that was down, {lost} lost with a worker"
        a_down = bool(re.search(r"\ba (down|up=false)", self.what))
        b_down = bool(re.search(r"\bb (down|up=false)", self.what))
        # A flap that is over before the worker could act flushes nothing.
        assert flushed == 0 or a_down, found
        assert flushed > 0 or self.what != "set a up=false, up=true", found
        assert dropped > 0 or self.what != "set b up=false, up=true", found
        assert dropped == 0 or b_down, found
        assert (lost > 0) == isinstance(self.between, WorkersDie), found

    def expect(self, expected: Expected) -> None:
        WithSomethingBetween.expect(self, expected)
        if self.what != "destroy":
            expected.create(NAME, _PAIR)


def _flushed(site: Site) -> int:
    """Return how many frames were dropped in the sender's ring because it was down."""
    return int(site.interface(_SENDER)["stats"]["oerrors"]["flushed"])


def _dropped(site: Site) -> int:
    """Return how many frames were dropped because the receiver was down."""
    sender, receiver = site.interface(_SENDER)["stats"], site.interface(_RECEIVER)["stats"]
    return int(receiver["ierrors"]["peer_down"] + sender["oerrors"]["peer_down"])


def _down_and_up(netns: Namespace, device: str) -> None:
    netns.ip(f"link set {device} down")
    netns.ip(f"link set {device} up")


@contextlib.contextmanager
def _slow_bridge(site: Site) -> Iterator[Callable[[], None]]:
    """Put the receiver into a bridge with a slow port for the block; yield what makes the port fast."""
    white = site.lab["white"]
    white.ip("link add bridge type bridge mcast_snooping 0")  # with snooping it sends frames of its own
    white.ip("link add slow type veth peer name fast")
    white.ip("link set fast up")
    for port in (_RECEIVER, "slow"):
        white.ip(f"link set {port} master bridge up")
    white.ip("link set bridge up")
    until(lambda: white.ip("-d -j link show master bridge").count('"state":"forwarding"') == 2)
    white.tc(f"qdisc add dev slow root {_SLOW}")

    def occupy() -> None:
        """Send a frame of the bridge's own: the first one passes at once, a later one restarts the port."""
        with RawSocket(white, "slow") as slow:
            slow.send(_NEIGHBOUR + _NEIGHBOUR + bytes(1000))

    def speed_up() -> None:
        white.tc(f"qdisc change dev slow root {_FAST}")
        occupy()

    occupy()
    try:
        yield speed_up
    finally:
        white.ip("link del slow")
        white.ip("link del bridge")
