"""The subjects of a measurement: cables between two namespaces, veth's or epaird's."""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from epaird.bench.children import PYTHON, BenchError, Child
from epaird.bench.interruption import Interruption
from epaird.bench.namespaces import BenchNamespace, BenchNamespaces
from epaird.bench.plan import POLL_SPIN_US
from epaird.kernel import link, veth

CONFIGURATION: Final = "epaird.toml"
"""Name of the daemon's configuration, in its directory."""
CONTROL_SOCKET: Final = "control.sock"
"""Name of the daemon's control socket, in its directory."""
_PROBE_PORT: Final = 9865
_PROBE_TIMEOUT_S: Final = 0.02
"""Time for a probe datagram to arrive, and pause between two probes."""
_READY_TIMEOUT_S: Final = 60.0
"""Time for a subject to forward its first datagram."""


def address(pair: int, half: str) -> str:
    """Return the IPv4 address of a half of a pair, in the pair's network 10.9.N.0/24; N is below 256."""
    return f"10.9.{pair}.{1 if half == 'a' else 2}"


@contextmanager
def build(
    name: str, namespaces: BenchNamespaces, pairs: int, interruption: Interruption
) -> Iterator[Child | None]:
    """Build a subject and wait until it forwards; yield its forwarding process, None for veth.

    Raises KernelError, BenchError and Interrupted, also while building.
    """
    if name == "veth":
        _build_veth(namespaces, pairs)
        await_forwarding(pairs, namespaces, None, interruption)
        yield None
        return
    with build_daemon(namespaces, pairs, interruption) as (daemon, _):
        yield daemon


@contextmanager
def build_daemon(
    namespaces: BenchNamespaces, pairs: int, interruption: Interruption
) -> Iterator[tuple[Child, Path]]:
    """Start the real daemon and wait until it forwards; yield it, and the directory with its configuration
    and its control socket.

    Raises KernelError, BenchError and Interrupted, also while building.
    """
    with tempfile.TemporaryDirectory(prefix="epaird-bench-") as directory:
        scratch = Path(directory)
        file = scratch / CONFIGURATION
        file.write_text(configuration(namespaces, pairs, scratch))
        command = (*PYTHON, "-m", "epaird", "run", "--config", str(file))
        # Its own namespace has no other daemon's devices.
        with Child(command, namespaces.home, interruption, end=signal.SIGTERM) as daemon:
            await_forwarding(pairs, namespaces, daemon, interruption)
            yield daemon, scratch


def _build_veth(namespaces: BenchNamespaces, pairs: int) -> None:
    for pair in range(pairs):
        name = f"veth{pair}"
        indices = veth.create(name, namespaces.a.handle, name, namespaces.b.handle)
        for half, namespace, index in zip("ab", (namespaces.a, namespaces.b), indices, strict=True):
            addresses = (link.Address(f"{address(pair, half)}/24"),)
            settings = link.LinkSettings(mtu=1500, txqueuelen=1000, addresses=addresses)
            link.configure(index, settings, netns=namespace.handle, device=name)


def configuration(
    namespaces: BenchNamespaces, pairs: int, scratch: Path, poll_spin_us: int = POLL_SPIN_US
) -> str:
    """Return the daemon's configuration in TOML: the defaults and ``pairs`` pairs."""
    halves = (
        f'[epair.epair{pair}.{half}]\nnetns = "{namespace.path}"\naddresses = ["{address(pair, half)}/24"]\n'
        for pair in range(pairs)
        for half, namespace in (("a", namespaces.a), ("b", namespaces.b))
    )
    own = (
        f'[daemon]\ncontrol_socket = "{scratch / CONTROL_SOCKET}"\npoll_spin_us = {poll_spin_us}\n'
        '[metrics]\nlisten = "127.0.0.1:0"\n'
    )
    return own + "".join(halves)


def await_forwarding(
    pairs: int, namespaces: BenchNamespaces, daemon: Child | None, interruption: Interruption
) -> None:
    """Wait until over each pair a datagram crosses from a to b.

    Raises KernelError, BenchError, Interrupted.
    """
    deadline = time.monotonic() + _READY_TIMEOUT_S
    for pair in range(pairs):
        while not _crosses(pair, namespaces.a, namespaces.b):
            if daemon is not None and not daemon.running:
                raise daemon.failure("ended")
            if time.monotonic() > deadline:
                cause = f"pair {pair} forwards no datagrams"
                raise daemon.failure(cause) if daemon is not None else BenchError(f"veth: {cause}")
            interruption.pause(_PROBE_TIMEOUT_S)


def _crosses(pair: int, a: BenchNamespace, b: BenchNamespace) -> bool:
    with b.inside():
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with a.inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with receiver, sender, contextlib.suppress(OSError):
        # The address or the route may not exist yet.
        receiver.bind((address(pair, "b"), _PROBE_PORT))
        sender.sendto(b"?", (address(pair, "b"), _PROBE_PORT))
        readable, _, _ = select.select([receiver], [], [], _PROBE_TIMEOUT_S)
        return bool(readable)
    return False
