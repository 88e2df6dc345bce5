"""Another impairment for a cable that a worker forwards."""

from __future__ import annotations

from typing import cast

from epaird.control.workers.attachment import Attachment, WorkerLost
from epaird.control.workers.impairing import Impairing
from epaird.control.workers.link import Link
from epaird.ipc.impairment import LineSpec
from epaird.ipc.messages import CableSpec, PortSpec
from tests.loop import on_loop

PORTS = PortSpec("epair0a", 1, 1500), PortSpec("epair0b", 2, 1500)
PLAIN = Attachment(CableSpec("epair0", PORTS), (7, 8))


def impaired(line: LineSpec) -> Attachment:
    return Attachment(PLAIN.spec.impaired(1, (line,)), PLAIN.ports, ((), (9,)))


class RecordingLink:
    """A process that carries out impairment, or one of an older version."""

    def __init__(self, *, carries_lines: bool = True) -> None:
        self.carries_lines = carries_lines
        self.requests: list[tuple[object, ...]] = []

    async def impair(self, *request: object) -> None:
        self.requests.append(request)


class Scene:
    """A worker's attachments and its process."""

    def __init__(self, link: RecordingLink | None) -> None:
        self.link = link
        self.attachments = {"epair0": PLAIN}
        self.impairing = Impairing(self.attachments, self.holder)

    async def holder(self, cable: str) -> Link:
        if self.link is None:
            raise WorkerLost(f"nothing has {cable}")
        return cast(Link, self.link)


@on_loop
async def test_a_process_is_given_the_ring_with_the_impairment() -> None:
    scene = Scene(link := RecordingLink())
    wanted = impaired(LineSpec(5, seed=7))
    await scene.impairing.apply(wanted, 1)
    assert link.requests == [("epair0", 1, (LineSpec(5, seed=7),), (9,))]
    assert scene.attachments == {"epair0": wanted}


@on_loop
async def test_a_line_that_is_turned_off_drains_and_is_dropped() -> None:
    scene = Scene(link := RecordingLink())
    await scene.impairing.apply(impaired(LineSpec(5, draining=True)), 1)
    assert link.requests == [("epair0", 1, (), ())]
    assert scene.attachments["epair0"].files == ((), (9,)), "a replacement needs the ring"
    assert scene.impairing.drained("epair0", 1) == "epair0b"
    assert scene.attachments["epair0"].fds == PLAIN.fds
    assert scene.attachments["epair0"].spec == PLAIN.spec


@on_loop
async def test_a_late_report_does_not_drop_a_line_that_is_impaired_again() -> None:
    scene = Scene(RecordingLink())
    await scene.impairing.apply(wanted := impaired(LineSpec(5)), 1)
    for cable, port in (("epair0", 1), ("epair0", 2), ("epair1", 0)):
        assert scene.impairing.drained(cable, port) == ""
    assert scene.attachments == {"epair0": wanted}


@on_loop
async def test_a_process_of_an_older_version_is_not_asked() -> None:
    scene = Scene(link := RecordingLink(carries_lines=False))
    await scene.impairing.apply(wanted := impaired(LineSpec(5)), 1)
    assert not link.requests
    assert scene.attachments == {"epair0": wanted}, "the next process is given it"


@on_loop
async def test_a_replacement_is_given_what_was_requested_while_there_was_no_process() -> None:
    scene = Scene(None)
    await scene.impairing.apply(wanted := impaired(LineSpec(5)), 1)
    assert scene.attachments == {"epair0": wanted}
    del scene.attachments["epair0"]
    await scene.impairing.apply(wanted, 1)
    assert scene.attachments == {}, "it was detached"
