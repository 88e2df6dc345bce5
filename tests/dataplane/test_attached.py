"""A cable as the worker's requests see it."""

from __future__ import annotations

import os

from epaird.dataplane.attached import AttachedCable
from epaird.dataplane.burst import frames_at_once
from epaird.ipc.messages import CableSpec, PortSpec
from tests.dataplane.conftest import Bench


def test_other_mtus_apply_to_both_ports_and_to_what_is_reported(make_bench: type[Bench]) -> None:
    bench = make_bench()
    spec = CableSpec("epair0", (PortSpec("epair0a", 1, 1500), PortSpec("epair0b", 2, 1500)))
    cable = AttachedCable((bench.ports[0], bench.ports[1]), spec, bench.crossconnects[bench.ports[0]])
    cable.resize((9000, 2000))
    assert cable.spec.mtus == (9000, 2000)
    for port in bench.ports:
        assert port.limit == 10 + 2000 + 18
        assert port.at_once == frames_at_once(port.limit)


def test_it_is_free_once_nothing_refers_to_its_ports(make_bench: type[Bench]) -> None:
    bench = make_bench()
    a, b = bench.ports
    cable = AttachedCable((a, b), CableSpec("epair0"), bench.crossconnects[a])
    assert cable.free
    bench.queue.put(b, [b"frame"])
    assert not cable.free
    bench.queue.taken(b)
    assert cable.free


def test_closing_it_closes_the_descriptors(make_bench: type[Bench]) -> None:
    bench = make_bench()
    ports = bench.ports[0], bench.ports[1]
    for port in ports:
        port.fd = os.dup(port.fd)
    AttachedCable(ports, CableSpec("epair0"), bench.crossconnects[ports[0]]).close()
    for port in ports:
        assert not os.path.exists(f"/proc/self/fd/{port.fd}")  # noqa: PTH110
