"""What is measured: so many cables between two namespaces, the kernel's or epaird's."""

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

MOST_PAIRS: Final = 256
"""Each has an IPv4 network of its own, 10.9.N.0/24."""
_PROBE_PORT: Final = 9865
_PROBE_S: Final = 0.02
_UP_S: Final = 60.0


def address(pair: int, half: str) -> str:
    """The address of a half of a pair."""
    return f"10.9.{pair}.{1 if half == 'a' else 2}"


@contextmanager
def built(
    name: str, places: BenchNamespaces, pairs: int, interruption: Interruption
) -> Iterator[Child | None]:
    """A subject by its name, built and carrying; the process that forwards, if there is one.

    Raises KernelError, BenchError and Interrupted, also while it is built."""
    with contextlib.ExitStack() as stack:
        daemon = None
        if name == "veth":
            _build_veth(places, pairs)
        else:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="epaird-bench-")))
            daemon = stack.enter_context(_daemon(places, pairs, scratch, interruption))
        for pair in range(pairs):
            _await_carrying(pair, places, daemon, interruption)
        yield daemon


def _build_veth(places: BenchNamespaces, pairs: int) -> None:
    for pair in range(pairs):
        name = f"veth{pair}"
        indices = veth.create(name, places.a.path, name, places.b.path)
        for half, place, index in zip("ab", (places.a, places.b), indices, strict=True):
            settings = link.LinkSettings(mtu=1500, txqueuelen=1000, addresses=(f"{address(pair, half)}/24",))
            link.configure(index, settings, netns=place.path, device=name)


def _daemon(places: BenchNamespaces, pairs: int, scratch: Path, interruption: Interruption) -> Child:
    """The real daemon, with everything on, in a home of its own: no other daemon's devices are in its way."""
    file = scratch / "epaird.toml"
    file.write_text(configuration(places, pairs, scratch))
    command = (*PYTHON, "-m", "epaird", "run", "--config", str(file))
    return Child(command, places.home, interruption, end=signal.SIGTERM)


def configuration(places: BenchNamespaces, pairs: int, scratch: Path) -> str:
    """The daemon's, in TOML: the defaults, and so many pairs."""
    halves = (
        f'[epair.epair{pair}.{half}]\nnetns = "{place.path}"\naddresses = ["{address(pair, half)}/24"]\n'
        for pair in range(pairs)
        for half, place in (("a", places.a), ("b", places.b))
    )
    own = f'[daemon]\ncontrol_socket = "{scratch}/control.sock"\n[metrics]\nlisten = "127.0.0.1:0"\n'
    return own + "".join(halves)


def _await_carrying(
    pair: int, places: BenchNamespaces, daemon: Child | None, interruption: Interruption
) -> None:
    """Wait until a datagram gets from a to b."""
    deadline = time.monotonic() + _UP_S
    while not _gets_across(pair, places.a, places.b):
        if daemon is not None and not daemon.running:
            raise daemon.failure("ended")
        if time.monotonic() > deadline:
            words = f"pair {pair} carries nothing"
            raise daemon.failure(words) if daemon is not None else BenchError(f"veth: {words}")
        interruption.pause(_PROBE_S)


def _gets_across(pair: int, a: BenchNamespace, b: BenchNamespace) -> bool:
    with b.inside():
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with a.inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with receiver, sender, contextlib.suppress(OSError):
        # The address may not be there yet, nor the way to it.
        receiver.bind((address(pair, "b"), _PROBE_PORT))
        sender.sendto(b"?", (address(pair, "b"), _PROBE_PORT))
        readable, _, _ = select.select([receiver], [], [], _PROBE_S)
        return bool(readable)
    return False
