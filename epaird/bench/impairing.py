"""Pairs of a daemon that are impaired for one job after another, over its API as by ``epairctl impair``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from epaird.bench.children import Child
from epaird.bench.impairplan import WINDOW, ImpairedJob
from epaird.bench.interruption import Interruption
from epaird.bench.namespaces import BenchNamespaces
from epaird.bench.plan import POLL_SPIN_US
from epaird.bench.subjects import (
    CONFIGURATION,
    CONTROL_SOCKET,
    await_forwarding,
    build_daemon,
    configuration,
)
from epaird.client.client import Client, DaemonError

_SYSCTLS: Final = {
    "tcp_rmem": f"4096 131072 {WINDOW}",
    "tcp_wmem": f"4096 16384 {WINDOW}",
    # Otherwise what one stream has learned about the cable applies to the next one, over another impairment.
    "tcp_no_metrics_save": "1",
}
_ANSWER_TIMEOUT_S: Final = 20.0


class ImpairedCables:
    """The pairs of a running daemon."""

    def __init__(
        self,
        daemon: Child,
        scratch: Path,
        pairs: int,
        namespaces: BenchNamespaces,
        interruption: Interruption,
    ) -> None:
        self.daemon = daemon
        """The daemon's process."""
        self.scratch = scratch
        """The directory with the daemon's configuration and control socket."""
        self._client = Client(str(scratch / CONTROL_SOCKET))
        self._pairs = pairs
        self._namespaces = namespaces
        self._interruption = interruption
        self._poll_spin_us = POLL_SPIN_US

    @contextmanager
    def impaired(self, job: ImpairedJob) -> Iterator[None]:
        """Impair the pairs of a job for the block. Afterwards no frame is held any more.

        Raises BenchError, KernelError, Interrupted.
        """
        self._poll(job.poll_spin_us)
        names = [f"epair{pair}" for pair in range(job.load.pairs)] if job.impairment else []
        for name in names:
            self._ask("PUT", "interfaces", name, "impairment", body=dict(job.impairment))
        yield
        for name in names:
            self._ask("DELETE", "interfaces", name, "impairment")
        # Frames stay in order: what was held has left before a datagram that is sent now.
        await_forwarding(job.load.pairs, self._namespaces, self.daemon, self._interruption)

    def _poll(self, spin_us: int) -> None:
        """Have the daemon's workers poll for so many microseconds."""
        if spin_us != self._poll_spin_us:
            text = configuration(self._namespaces, self._pairs, self.scratch, spin_us)
            (self.scratch / CONFIGURATION).write_text(text)
            self._ask("POST", "reload", body={"dry_run": False})
            self._poll_spin_us = spin_us

    def _ask(self, method: str, *place: str, body: Any = None) -> None:  # noqa: ANN401
        self._interruption.check()
        try:
            self._client.ask(method, *place, body=body, timeout_s=_ANSWER_TIMEOUT_S)
        except DaemonError as error:
            raise self.daemon.failure(str(error)) from None


@contextmanager
def build_impaired(
    namespaces: BenchNamespaces, pairs: int, interruption: Interruption
) -> Iterator[ImpairedCables]:
    """Start the daemon, with large windows in the namespaces of the two ends, and wait until it forwards.

    Raises KernelError, BenchError and Interrupted, also while building.
    """
    for namespace in (namespaces.a, namespaces.b):
        with namespace.inside():
            for name, value in _SYSCTLS.items():
                # Where they are read-only, as in a container, the results say how large the windows are.
                with contextlib.suppress(OSError):
                    Path("/proc/sys/net/ipv4", name).write_text(value)
    with build_daemon(namespaces, pairs, interruption) as (daemon, scratch):
        yield ImpairedCables(daemon, scratch, pairs, namespaces, interruption)
