"""The seam for stages, with a stage of the test's own."""

from __future__ import annotations

from epaird.dataplane.burst import Burst
from epaird.dataplane.sink import Sink
from epaird.dataplane.stages import Stage
from tests.dataplane.conftest import Bench, frame, numbered


class Impairment:
    """A stage that drops the second frame of every burst."""

    REASON = 100

    def __init__(self) -> None:
        self.times: list[int] = []

    def process(self, burst: Burst, now_ns: int) -> None:
        self.times.append(now_ns)
        slot = burst.accepted()[1]
        burst.verdicts[slot] = self.REASON

    def wake(self, now_ns: int) -> None: ...


def test_frames_that_a_stage_drops_are_not_delivered(make_bench: type[Bench]) -> None:
    bench = make_bench()
    stage = Impairment()
    bench.ports[0].stages = (stage,)
    sent = numbered(4)
    bench.owners[0].sends(*sent)
    bench.owners[1].sends(*sent)
    bench.now_ns = 5_000_000_000
    bench.loop()
    assert bench.owners[1].receives() == [sent[0], *sent[2:]]
    assert bench.owners[0].receives() == sent, "a stage is for one direction"
    assert stage.times == [5_000_000_000]
    bench.check_ledger()


def test_stages_see_what_the_one_before_accepted(make_bench: type[Bench]) -> None:
    bench = make_bench()
    bench.ports[0].stages = (Impairment(), Impairment())
    runt = frame()[:-1]
    sent = numbered(5)
    bench.owners[0].sends(runt, *sent)
    bench.pipeline.transmit(bench.ports[0])
    assert bench.owners[1].receives() == [sent[0], *sent[3:]]
    assert bench.oerrors(bench.ports[0])["runt"] == 1
    bench.check_ledger()


def test_without_stages_the_clock_is_not_read(make_bench: type[Bench]) -> None:
    bench = make_bench()
    bench.now_ns = None  # type: ignore[assignment]
    bench.owners[0].sends(frame())
    bench.loop()
    assert bench.owners[1].receives() == [frame()]


def test_a_stage_stays_with_its_port_under_another_forwarding(make_bench: type[Bench]) -> None:
    bench = make_bench()
    port = bench.ports[0]
    stage: Stage = Impairment()
    port.stages = (stage,)
    Sink(bench.pipeline, (port,))
    bench.owners[0].sends(*numbered(3))
    port.forwarding.exchange(port)
    assert bench.oerrors(port)["peer_down"] == 2, "the stage accounts for the frames that it drops"
