"""The traffic: over pairs that nothing is done to, known to the datagram, and small talk over the others."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from tests.scenarios.paced import Outcome, Program, Stream
from tests.scenarios.places import Namespace
from tests.scenarios.pouring import Poured
from tests.soak.site import Site
from tests.waiting import until

BYTES_A_SECOND: Final = 4_000_000
Interfaces = Mapping[str, Mapping[str, Any]]
"""What the API says of each, by its name."""


@dataclass(frozen=True, slots=True)
class Course:
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


COURSES: Final = (
    Course("red", "blue", "10.0.0.2", "10.0.0.2", 9000, 5000, "epair0a", "epair0b"),
    Course("blue", "red", "10.0.0.1", "10.0.0.1", 9001, 2000, "epair0b", "epair0a"),
    Course("red", "blue", "10.0.2.2", "10.0.2.2", 9002, 1000, "epair2a", "epair2b"),
    Course("red", "red", "10.88.7.9", "10.88.7.1", 9003, 1000, "lo1", "lo1"),
)


class Traffic:
    """All of it, from ``with`` to its end."""

    def __init__(self, site: Site) -> None:
        self._stack = contextlib.ExitStack()
        red, blue = site.lab["red"], site.lab["blue"]
        for number, device in enumerate(("eth0", "eth1", "eth2")):
            acquaint(red, blue, device, f"10.0.{number}.2")
            acquaint(blue, red, device, f"10.0.{number}.1")
        with contextlib.ExitStack() as undo:
            self._streams = {
                course: undo.enter_context(
                    Stream(
                        site.lab[course.source], site.lab[course.target], course.address, course.rate,
                        port=course.port, bind=course.bind,
                    )
                )
                for course in COURSES
            }  # fmt: skip
            self._poured = undo.enter_context(Poured(red, blue, "10.0.1.2", BYTES_A_SECOND))
            self._chatter = [Program(site.lab["green"], "tests.soak.chatter", "2")]
            undo.callback(self._chatter[0].kill)
            self._chatter.append(Program(site.lab["white"], "tests.soak.chatter", "1"))
            undo.callback(self._chatter[1].kill)
            self._stack = undo.pop_all()
        self._lost = dict.fromkeys(COURSES, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def pause(self) -> None:
        """Send nothing for the time being."""
        for stream in (*self._streams.values(), self._poured):
            stream.pause()
        for program in self._chatter:
            program.tell("pause")

    def go(self) -> None:
        """Go on."""
        for stream in (*self._streams.values(), self._poured):
            stream.go()
        for program in self._chatter:
            program.tell("go")

    def sent(self) -> int:
        """Datagrams that have been sent so far over what nothing is done to."""
        return sum(stream.outcome().sent for stream in self._streams.values())

    def arrived(self) -> None:
        """Once it pauses: wait until every byte of the TCP stream has arrived, which none may miss."""
        until(
            lambda: self._poured.on_its_way() == 0, lambda: f"TCP: {self._poured.on_its_way()} bytes missing"
        )

    def unaccounted(self, interfaces: Interfaces) -> list[str]:
        """Where datagrams are missing of which no counter says so, or come twice or too late."""
        wrong = []
        for course, stream in self._streams.items():
            outcome, counted = stream.outcome(), errors(interfaces, course)
            where = f"from {course.sender} to {course.receiver}"
            if outcome.lost != counted:
                wrong.append(f"{where}: {outcome} has lost {outcome.lost}, counters say {counted}")
            if not outcome.ordered:
                wrong.append(f"{where}: out of order: {outcome}")
        return wrong

    def lost(self, interfaces: Interfaces) -> int:
        """How many datagrams the counters say were lost since somebody asked."""
        before = sum(self._lost.values())
        self._lost = {course: errors(interfaces, course) for course in COURSES}
        return sum(self._lost.values()) - before

    def outcomes(self) -> dict[Course, Outcome]:
        """What has become of each stream so far."""
        return {course: stream.outcome() for course, stream in self._streams.items()}


def errors(interfaces: Interfaces, course: Course) -> int:
    """Frames of a course that a counter says were lost."""
    sender, receiver = interfaces[course.sender]["stats"], interfaces[course.receiver]["stats"]
    found = sender["oqdrops"] + sum(sender["oerrors"].values()) + sum(receiver["ierrors"].values())
    return int(found)


def acquaint(source: Namespace, target: Namespace, device: str, address: str) -> None:
    """Have source know the hardware address of target's device for ever."""
    mac = target.links()[device].mac
    source.ip(f"neigh replace {address} lladdr {mac} dev {device} nud permanent")
