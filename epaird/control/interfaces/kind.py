"""The protocol of a kind of interface, which ``epair`` and ``lo`` implement.

A further kind is one more class that implements :class:`InterfaceKind`, with a model for the state file
(:mod:`epaird.control.interfaces.saved`), and one more entry in the registry.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeVar

from epaird.config.settings import Configuration
from epaird.control.interfaces.balancing import Balancing
from epaird.control.interfaces.cables import Cable
from epaird.control.interfaces.convergence import Convergence
from epaird.control.interfaces.events import EventBus
from epaird.control.interfaces.flags import Flags
from epaird.control.interfaces.ifnet import Clone, Ifnet, Origin
from epaird.control.interfaces.inplace import CloneChange
from epaird.control.interfaces.strays import Strays
from epaird.control.interfaces.tracking import Tracker
from epaird.control.interfaces.unregister import Unregistering
from epaird.control.machine.host import Host
from epaird.control.readings import InterfaceReading
from epaird.control.workers.worker import Worker
from epaird.ipc.ledger import Table
from epaird.ipc.slots import Slots
from epaird.kernel.tun import Tap
from epaird.names.cloners import Cloner


@dataclass(frozen=True, slots=True)
class Environment:
    """The objects that all kinds of interfaces share."""

    host: Host
    """The machine on which devices are created."""
    table: Table
    """The ledger."""
    slots: Slots
    """Free slots of the ledger."""
    workers: Sequence[Worker]
    """The workers, by number; their number can change."""
    bus: EventBus
    """Publishes events."""
    convergence: Convergence
    """Gives devices their addresses, routes and rules."""
    tracker: Tracker
    """Reports changes of devices."""
    strays: Strays
    """Reports names that lead elsewhere."""
    unregistering: Unregistering
    """Removes interfaces."""
    balancing: Balancing
    """Settles the accounts of cables with several queues."""

    @classmethod
    def of(cls, host: Host, table: Table, slots: Slots, workers: Sequence[Worker]) -> Environment:
        """Return an environment with new objects besides these."""
        bus = EventBus()
        unregistering = Unregistering(host, table, slots, bus)
        convergence = Convergence(host)
        tracker = Tracker(host, bus, convergence, Flags(host, table))
        return cls(
            host, table, slots, workers, bus, convergence, tracker, Strays(host, bus), unregistering,
            Balancing(host),
        )  # fmt: skip


NO_KEYS: Final[Mapping[Ifnet, Collection[str]]] = MappingProxyType({})
"""No keys of any device."""

C = TypeVar("C", bound=Clone)
I = TypeVar("I", bound=Ifnet)  # noqa: E741
S = TypeVar("S")
V = TypeVar("V")


class InterfaceKind(Protocol[C, I, S, V]):
    """A kind of interface, and all interfaces of this kind.

    ``C`` is the clone, ``I`` its interfaces, ``S`` its settings and ``V`` its model in the state file."""

    @property
    def cloner(self) -> Cloner:
        """The names of this kind."""

    @property
    def noun(self) -> str:
        """The kind in messages: ``pair``."""

    def __iter__(self) -> Iterator[C]:
        """Iterate over the clones."""

    def __len__(self) -> int:
        """Return the number of clones."""

    @property
    def ifnets(self) -> tuple[I, ...]:
        """The interfaces of all clones."""

    def get(self, name: str) -> C | None:
        """Return the clone of a name."""

    # Life.

    async def create(self, name: str, settings: S, origin: Origin = "configuration") -> C:
        """Create the devices, have them forwarded, move them to their namespaces and configure them.

        Raises KernelError, WorkerLost or WorkerRefused, and then nothing is left."""

    async def destroy(self, clone: C) -> None:
        """Destroy a clone; return when it is gone, even if it was being destroyed already."""

    async def destroy_all(self) -> None:
        """Destroy every clone."""

    def changing(
        self, clone: C, after: S, requested: Mapping[Ifnet, Collection[str]] = NO_KEYS
    ) -> CloneChange:
        """Return the change of a clone to other settings in place, which :class:`InPlace` carries out.

        ``requested`` are keys of devices that are set even if they are as recorded."""

    async def relocate(self, ifnet: I) -> None:
        """Move an interface to where the name of its namespace leads now, and configure it there.

        Raises KernelError before the device has moved, or when it could not be configured there."""

    async def rewire(self, clone: C) -> None:
        """Apply the present workers and settings to the cables. Raises WorkerLost or WorkerRefused."""

    def cable_of(self, ifnet: I) -> Cable[I]:
        """Return the cable that an interface is to be an end of, not attached yet."""

    def refresh(self) -> None:
        """Update what depends on the state of devices, after events may have been missed."""

    # Counters.

    def readings(self, ifnets: Sequence[I] | None = None) -> tuple[InterfaceReading, ...]:
        """Return the present state of these interfaces, or of all.

        An interface that vanishes during this is left out. Raises KernelError."""

    async def settle(self, worker: Worker) -> None:
        """Settle the account of a worker that has died; of cables with several queues, soon."""

    def balance(self) -> None:
        """Settle the accounts of cables with several queues, which a predecessor may not have settled."""

    # Handover.

    def save(self, clone: C, configured: S | None) -> V:
        """Return a clone in the form of the state file.

        ``configured`` are its settings in the configuration."""

    def adopt(self, saved: V, taps: Sequence[Tap]) -> C:
        """Take over a clone of a predecessor; ``taps`` are its devices, in the order of the saved ones."""

    def track(self, clone: C) -> None:
        """Track the interfaces of a clone that was taken over."""

    # Settings.

    def merged(self, clone: C, ifnet: I | None, request: Mapping[str, object]) -> S:
        """Return the clone's settings with the keys of a request changed.

        The keys are those of the table of ``ifnet``, if it is given, or of the clone. Raises Refused or
        InvalidConfiguration."""

    def requested(
        self, clone: C, ifnet: I | None, request: Mapping[str, object]
    ) -> Mapping[Ifnet, Collection[str]]:
        """Return the keys of each device that a request names, as in :meth:`merged`."""

    def table_of(self, configuration: Configuration) -> Mapping[str, S]:
        """Return the tables of this kind in a configuration, by name."""

    def matched(self, clone: C, wanted: S | None) -> S:
        """Return the clone's settings, written as in ``wanted`` where that describes the present state.

        Its owner or the daemon may have chosen what is now requested."""

    def observed(self, clone: C) -> S:
        """Return the settings that would create the clone as it is now."""

    def exact(self, clone: C) -> S:
        """Return the clone's settings with what its devices have where that was chosen: the hardware
        addresses by the daemon, other properties perhaps by their owner."""

    def confirm(self, clone: C, wanted: S) -> None:
        """Record that a clone is as the configuration wants it, and belongs to the configuration."""


AnyKind = InterfaceKind[Any, Any, Any, Any]
