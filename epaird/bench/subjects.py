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
from epaird.kernel import link, veth

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
    with contextlib.ExitStack() as stack:
        daemon = None
        if name == "veth":
            _build_veth(namespaces, pairs)
        else:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="epaird-bench-")))
            daemon = stack.enter_context(_daemon(namespaces, pairs, scratch, interruption))
        for pair in range(pairs):
            _await_ready(pair, namespaces, daemon, interruption)
        yield daemon


def _build_veth(namespaces: BenchNamespaces, pairs: int) -> None:
    for pair in range(pairs):
        name = f"veth{pair}"
        indices = veth.create(name, namespaces.a.handle, name, namespaces.b.handle)
        for half, namespace, index in zip("ab", (namespaces.a, namespaces.b), indices, strict=True):
            addresses = (link.Address(f"{address(pair, half)}/24"),)
            settings = link.LinkSettings(mtu=1500, txqueuelen=1000, addresses=addresses)
            link.configure(index, settings, netns=namespace.handle, device=name)


def _daemon(namespaces: BenchNamespaces, pairs: int, scratch: Path, interruption: Interruption) -> Child:
    """Start the real daemon in a namespace without another daemon's devices."""
    file = scratch / "epaird.toml"
    file.write_text(configuration(namespaces, pairs, scratch))
    command = (*PYTHON, "-m", "epaird", "run", "--config", str(file))
    return Child(command, namespaces.home, interruption, end=signal.SIGTERM)


def configuration(namespaces: BenchNamespaces, pairs: int, scratch: Path) -> str:
    """Return the daemon's configuration in TOML: the defaults and ``pairs`` pairs."""
    halves = (
        f'[epair.epair{pair}.{half}]\nnetns = "{namespace.path}"\naddresses = ["{address(pair, half)}/24"]\n'
        for pair in range(pairs)
        for half, namespace in (("a", namespaces.a), ("b", namespaces.b))
    )
    own = f'[daemon]\ncontrol_socket = "{scratch}/control.sock"\n[metrics]\nlisten = "127.0.0.1:0"\n'
    return own + "".join(halves)


def _await_ready(
    pair: int, namespaces: BenchNamespaces, daemon: Child | None, interruption: Interruption
) -> None:
    """Wait until a datagram crosses from a to b."""
    deadline = time.monotonic() + _READY_TIMEOUT_S
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
