from __future__ import annotations

from epaird.dataplane.frames import objection
from epaird.dataplane.sink import Sink
from epaird.ipc.counters import OPACKETS, PEER_DOWN, RUNT, TOO_BIG
from tests.dataplane.conftest import Bench, frame, numbered


def test_frames_of_an_unplugged_interface_are_its_errors(make_bench: type[Bench]) -> None:
    bench = make_bench()
    a, _ = bench.ports
    Sink(bench.pipeline, (a,))
    bench.owners[0].sends(*numbered(3), frame()[:-1])
    assert a.forwarding.exchange(a)
    assert bench.oerrors(a)["peer_down"] == 3
    assert bench.oerrors(a)["runt"] == 1
    assert a.account.words[OPACKETS] == a.account.words[TOO_BIG] == 0
    assert bench.pipeline.burst.verdicts == {0: PEER_DOWN, 1: PEER_DOWN, 2: PEER_DOWN, 3: RUNT}
    assert bench.owners[1].receives() == []
    assert a.refs == 1


def test_a_tagged_frame_that_would_fit_is_not_too_long(make_bench: type[Bench]) -> None:
    bench = make_bench()
    a, _ = bench.ports
    a.examine = objection
    Sink(bench.pipeline, (a,))
    head = frame()[:-2] + b"\x81\0\0\7\x88\xb5"
    bench.owners[0].sends(head + bytes(1504), head + bytes(1505))
    a.forwarding.exchange(a)
    assert (bench.oerrors(a)["peer_down"], bench.oerrors(a)["oversize"]) == (1, 1)


def test_one_burst_is_dropped_at_a_time(make_bench: type[Bench]) -> None:
    bench = make_bench()
    a, _ = bench.ports
    a.at_once = 2
    Sink(bench.pipeline, (a,))
    bench.owners[0].sends(*numbered(3))
    assert not a.forwarding.exchange(a)
    assert a.forwarding.exchange(a)
    assert bench.oerrors(a)["peer_down"] == 3
