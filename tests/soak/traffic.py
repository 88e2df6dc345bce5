"""The traffic: over pairs that nothing is done to, known to the datagram, and small talk over the others."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from tests.scenarios.byte_stream import ByteStream
from tests.scenarios.datagram_stream import DatagramStream, Outcome
from tests.scenarios.programs import Program
from tests.scenarios.transfers import add_neighbour
from tests.soak.site import Site
from tests.waiting import until

BYTES_A_SECOND: Final = 4_000_000
Interfaces = Mapping[str, Mapping[str, Any]]
"""What the API says of each, by its name."""


@dataclass(frozen=True, slots=True)
class Route:
    """A way of datagrams."""

    source: str
    target: str
    address: str
    """To which they are sent."""
    bind: str
    """At which they arrive."""
    port: int
    rate: int
    """Datagrams a second."""
    sender: str
    """The interface by which they leave; nothing else does."""
    receiver: str


ROUTES: Final = (
    Route("red", "blue", "10.0.0.2", "10.0.0.2", 9000, 5000, "epair0a", "epair0b"),
    Route("blue", "red", "10.0.0.1", "10.0.0.1", 9001, 2000, "epair0b", "epair0a"),
    Route("red", "blue", "10.0.2.2", "10.0.2.2", 9002, 1000, "epair2a", "epair2b"),
    Route("red", "red", "10.88.7.9", "10.88.7.1", 9003, 1000, "lo1", "lo1"),
)


class Traffic:
    """All of it, from ``with`` to its end."""

    def __init__(self, site: Site) -> None:
        self._stack = contextlib.ExitStack()
        red, blue = site.lab["red"], site.lab["blue"]
        for number, device in enumerate(("eth0", "eth1", "eth2")):
            add_neighbour(red, blue, f"10.0.{number}.2", device)
            add_neighbour(blue, red, f"10.0.{number}.1", device)
        with contextlib.ExitStack() as undo:
            self._streams = {
                route: undo.enter_context(
                    DatagramStream(
                        site.lab[route.source], site.lab[route.target], route.address, route.rate,
                        port=route.port, bind=route.bind,
                    )
                )
                for route in ROUTES
            }  # fmt: skip
            self._byte_stream = undo.enter_context(ByteStream(red, blue, "10.0.1.2", BYTES_A_SECOND))
            self._background = [Program(site.lab["green"], "tests.soak.background", "2")]
            undo.callback(self._background[0].kill)
            self._background.append(Program(site.lab["white"], "tests.soak.background", "1"))
            undo.callback(self._background[1].kill)
            self._stack = undo.pop_all()
        self._lost = dict.fromkeys(ROUTES, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def pause(self) -> None:
        """Send nothing for the time being."""
        for stream in (*self._streams.values(), self._byte_stream):
            stream.pause()
        for program in self._background:
            program.command("pause")

    def go(self) -> None:
        """Go on."""
        for stream in (*self._streams.values(), self._byte_stream):
            stream.go()
        for program in self._background:
            program.command("go")

    def sent(self) -> int:
        """Datagrams that have been sent so far over what nothing is done to."""
        return sum(stream.outcome().sent for stream in self._streams.values())

    def arrived(self) -> None:
        """Once it pauses: wait until every byte of the TCP stream has arrived, which none may miss."""
        until(
            lambda: self._byte_stream.in_flight() == 0,
            lambda: f"TCP: {self._byte_stream.in_flight()} bytes missing",
        )

    def unaccounted(self, interfaces: Interfaces) -> list[str]:
        """Where datagrams are missing of which no counter says so, or come twice or too late."""
        wrong = []
        for route, stream in self._streams.items():
            outcome, counted = stream.outcome(), errors(interfaces, route)
            where = f"from {route.sender} to {route.receiver}"
            if outcome.lost != counted:
                wrong.append(f"{where}: {outcome} has lost {outcome.lost}, counters say {counted}")
            if not outcome.ordered:
                wrong.append(f"{where}: out of order: {outcome}")
        return wrong

    def lost(self, interfaces: Interfaces) -> int:
        """How many datagrams the counters say were lost since somebody asked."""
        before = sum(self._lost.values())
        self._lost = {route: errors(interfaces, route) for route in ROUTES}
        return sum(self._lost.values()) - before

    def outcomes(self) -> dict[Route, Outcome]:
        """What has become of each stream so far."""
        return {route: stream.outcome() for route, stream in self._streams.items()}


def errors(interfaces: Interfaces, route: Route) -> int:
    """Frames of a route that a counter says were lost."""
    sender, receiver = interfaces[route.sender]["stats"], interfaces[route.receiver]["stats"]
    found = sender["oqdrops"] + sum(sender["oerrors"].values()) + sum(receiver["ierrors"].values())
    return int(found)
