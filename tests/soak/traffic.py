"""The traffic: steady streams over pairs that no operation touches, and background traffic over the
others."""

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
"""The API's view of each interface, by its name."""


@dataclass(frozen=True, slots=True)
class Route:
    """The path of a datagram stream."""

    source: str
    target: str
    address: str
    """The destination address."""
    bind: str
    """The receiver's own address."""
    port: int
    rate: int
    """Datagrams a second."""
    sender: str
    """The interface that transmits this stream and nothing else."""
    receiver: str


ROUTES: Final = (
    Route("red", "blue", "10.0.0.2", "10.0.0.2", 9000, 5000, "epair0a", "epair0b"),
    Route("blue", "red", "10.0.0.1", "10.0.0.1", 9001, 2000, "epair0b", "epair0a"),
    Route("red", "blue", "10.0.2.2", "10.0.2.2", 9002, 1000, "epair2a", "epair2b"),
    Route("red", "red", "10.88.7.9", "10.88.7.1", 9003, 1000, "lo1", "lo1"),
)


class Traffic:
    """All traffic, from ``with`` to its end."""

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
        """Stop sending until :meth:`go`."""
        for stream in (*self._streams.values(), self._byte_stream):
            stream.pause()
        for program in self._background:
            program.command("pause")

    def go(self) -> None:
        """Resume sending."""
        for stream in (*self._streams.values(), self._byte_stream):
            stream.go()
        for program in self._background:
            program.command("go")

    def sent(self) -> int:
        """Return the datagrams sent so far over the steady streams."""
        return sum(stream.outcome().sent for stream in self._streams.values())

    def wait_for_bytes(self) -> None:
        """Wait, while paused, until every byte of the TCP stream has arrived."""
        until(
            lambda: self._byte_stream.in_flight() == 0,
            lambda: f"TCP: {self._byte_stream.in_flight()} bytes missing",
        )

    def unaccounted(self, interfaces: Interfaces) -> list[str]:
        """Return the streams with losses that no counter has, duplicates or reordering."""
        wrong = []
        for route, stream in self._streams.items():
            outcome, counted = stream.outcome(), errors(interfaces, route)
            where = f"from {route.sender} to {route.receiver}"
            if outcome.lost != counted:
                wrong.append(f"{where}: {outcome} has lost {outcome.lost}, counters report {counted}")
            if not outcome.ordered:
                wrong.append(f"{where}: out of order: {outcome}")
        return wrong

    def lost(self, interfaces: Interfaces) -> int:
        """Return how many datagrams the counters report as lost since the previous call."""
        before = sum(self._lost.values())
        self._lost = {route: errors(interfaces, route) for route in ROUTES}
        return sum(self._lost.values()) - before

    def outcomes(self) -> dict[Route, Outcome]:
        """Return the outcome of each stream so far."""
        return {route: stream.outcome() for route, stream in self._streams.items()}


def errors(interfaces: Interfaces, route: Route) -> int:
    """Return the frames of a route that counters report as lost."""
    sender, receiver = interfaces[route.sender]["stats"], interfaces[route.receiver]["stats"]
    found = sender["oqdrops"] + sum(sender["oerrors"].values()) + sum(receiver["ierrors"].values())
    return int(found)
