from __future__ import annotations

import signal
import socket
from ipaddress import ip_interface
from pathlib import Path

import pytest

from epaird.bench.interruption import Interrupted, Interruption
from epaird.bench.namespaces import BenchNamespace, BenchNamespaces
from epaird.bench.plan import SUBJECTS
from epaird.bench.subjects import address, build, configuration
from epaird.config.reading import read
from epaird.kernel.namespace import Identity, Namespace


def crosses(pair: int, source: BenchNamespace, target: BenchNamespace, to: str) -> bool:
    with target.inside():
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with source.inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with receiver, sender:
        receiver.bind((to, 0))
        receiver.settimeout(10)
        sender.sendto(b"%d" % pair, receiver.getsockname())
        return receiver.recv(100) == b"%d" % pair


def test_addresses_are_unique() -> None:
    assert len({address(pair, half) for pair in range(256) for half in "ab"}) == 512
    assert (address(0, "a"), address(255, "b")) == ("10.9.0.1", "10.9.255.2")


def test_the_configuration_is_valid(tmp_path: Path) -> None:
    namespaces = BenchNamespaces()
    namespaces.a, namespaces.b = (
        BenchNamespace(f"/proc/7/fd/{fd}", Namespace(fd, Identity(4, fd), "")) for fd in (8, 9)
    )
    file = tmp_path / "epaird.toml"
    file.write_text(configuration(namespaces, 2, Path("/tmp/scratch")))  # noqa: S108 (only a name)
    found = read(file).configuration
    assert list(found.epair) == ["epair0", "epair1"]
    assert found.epair["epair1"].a.netns == "/proc/7/fd/8"
    assert found.epair["epair1"].b.netns == "/proc/7/fd/9"
    assert found.epair["epair1"].b.addresses == (ip_interface("10.9.1.2/24"),)
    assert str(found.daemon.control_socket) == "/tmp/scratch/control.sock"  # noqa: S108


@pytest.mark.real
@pytest.mark.parametrize("name", SUBJECTS)
def test_every_pair_forwards_in_both_directions(name: str, interruption: Interruption) -> None:
    with BenchNamespaces() as namespaces, build(name, namespaces, 2, interruption) as forwarder:
        assert (forwarder is None) == (name == "veth")
        for pair in range(2):
            assert crosses(pair, namespaces.a, namespaces.b, address(pair, "b"))
            assert crosses(pair, namespaces.b, namespaces.a, address(pair, "a"))


@pytest.mark.real
def test_an_interruption_ends_the_building(interruption: Interruption) -> None:
    signal.raise_signal(signal.SIGTERM)
    with (
        pytest.raises(Interrupted),
        BenchNamespaces() as namespaces,
        build("epaird", namespaces, 1, interruption),
    ):
        pytest.fail("was built")
