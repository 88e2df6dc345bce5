"""What the daemon is, written down beside its control socket for the next one.

The file says what cannot be asked of anybody else: which interfaces there are, with which settings, whose
slots of the ledger they count in, how they are plugged.  It is written a moment after something has
changed, in one step, so that it is whole whenever somebody reads it.  A machine that stops takes devices
and file along; so nothing is synchronised to a disk.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from epaird.config.settings import LoopbackSettings, PairSettings
from epaird.control.interfaces.ifnet import CarrierRule, Half, Ifnet, Loopback, Origin, Pair
from epaird.control.machine.host import Place
from epaird.control.workers.worker import Worker
from epaird.kernel.namespace import Identity
from epaird.names.cloners import Side

log = logging.getLogger(__name__)

FILE: Final = "state.json"
VERSION: Final = 2
"""Version of the file's form.  Any version is read, as far as this program knows its fields: 1 is that of
epaird 0.1.0."""
SOON_S: Final = 0.02
"""How long after a change it is written, so that many changes are written once."""
AGAIN_S: Final = 1.0
"""How long after a failure."""
SHARE: Final = 20
"""At most one part in so many of the time goes into writing it."""


class SavedPlace(BaseModel):
    """Where a device is."""

    name: str
    index: int
    netns: str
    nsid: int | None
    identity: tuple[int, int]

    @classmethod
    def of(cls, place: Place) -> SavedPlace:
        """A place."""
        return cls(
            name=place.name,
            index=place.index,
            netns=place.netns,
            nsid=place.nsid,
            identity=tuple(place.identity),
        )

    def place(self) -> Place:
        """The place."""
        return Place(self.name, self.index, self.netns, self.nsid, Identity(*self.identity))


class SavedDevice(BaseModel):
    """What a half and a loopback have in common."""

    name: str
    """Its own."""
    slots: tuple[int, ...]
    tap_index: int
    offloads: int
    missing: tuple[str, ...]
    place: SavedPlace
    mtu: int
    up: bool
    carrier: bool
    bases: tuple[int, ...]
    """Of its wire, one for each queue; empty while it is in none."""


class SavedHalf(BaseModel):
    """A half."""

    device: SavedDevice
    side: Side
    mac: str
    peer: str | None
    """The name of the half it is patched to."""


class SavedPair(BaseModel):
    """A pair."""

    name: str
    settings: PairSettings
    origin: Origin
    workers: tuple[int, ...]
    halves: tuple[SavedHalf, SavedHalf]
    plugged: CarrierRule = "peer"
    said: PairSettings | None = None
    """What the configuration says of it, where its settings are others."""


class SavedLoopback(BaseModel):
    """A loopback."""

    device: SavedDevice
    settings: LoopbackSettings
    origin: Origin
    worker: int
    said: LoopbackSettings | None = None
    """What the configuration says of it, where its settings are others."""


class SavedWorker(BaseModel):
    """A worker."""

    number: int
    slot: int
    pid: int
    restarts: int


class State(BaseModel):
    """Everything."""

    version: int = VERSION
    home: tuple[int, int]
    """The daemon's own namespace."""
    macs_made: int
    """Indices of hardware addresses used so far."""
    workers: tuple[SavedWorker, ...]
    pairs: tuple[SavedPair, ...]
    loopbacks: tuple[SavedLoopback, ...]


def saved_worker(worker: Worker) -> SavedWorker:
    """A worker to be written down."""
    return SavedWorker(number=worker.number, slot=worker.slot, pid=worker.pid or 0, restarts=worker.restarts)


def saved_pair(pair: Pair, said: PairSettings | None = None) -> SavedPair:
    """A pair to be written down; ``said`` is what the configuration says of it."""
    a, b = pair.halves
    return SavedPair(
        name=pair.name,
        settings=pair.settings,
        origin=pair.origin,
        workers=tuple(worker.number for worker in pair.workers),
        halves=(_saved_half(a), _saved_half(b)),
        plugged=pair.plugged,
        said=said if said != pair.settings else None,
    )


def saved_loopback(loopback: Loopback, said: LoopbackSettings | None = None) -> SavedLoopback:
    """A loopback to be written down; ``said`` is what the configuration says of it."""
    return SavedLoopback(
        device=_device(loopback),
        settings=loopback.settings,
        origin=loopback.origin,
        worker=loopback.worker.number,
        said=said if said != loopback.settings else None,
    )


def _saved_half(half: Half) -> SavedHalf:
    return SavedHalf(
        device=_device(half),
        side=half.side,
        mac=half.mac,
        peer=half.peer.device if half.peer is not None else None,
    )


def _device(ifnet: Ifnet) -> SavedDevice:
    return SavedDevice(
        name=ifnet.device,
        slots=ifnet.slots,
        tap_index=ifnet.tap.index,
        offloads=ifnet.tap.offloads,
        missing=ifnet.tap.missing,
        place=SavedPlace.of(ifnet.place),
        mtu=ifnet.mtu,
        up=ifnet.up,
        carrier=ifnet.carrier,
        bases=ifnet.wire.bases(ifnet) if ifnet.wire is not None else (),
    )


def read(directory: Path) -> State | None:
    """What a predecessor has written; None when there is nothing that can be used."""
    file = directory / FILE
    try:
        state = State.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        log.warning("%s: not used: %s", file, str(error).splitlines()[0])
        return None
    return state


class Keeper:
    """Writes the file."""

    def __init__(
        self, directory: Path, state: Callable[[], State], written: Callable[[], None] = lambda: None
    ) -> None:
        """``state`` tells what is to be written; ``written`` is called when it was, or should have been."""
        self._written = written
        self._file = directory / FILE
        self._state = state
        self._due: asyncio.TimerHandle | None = None
        self._pause_s = SOON_S
        self._failed = False

    @property
    def failed(self) -> bool:
        """It could not be written when it was to be."""
        return self._failed

    def changed(self) -> None:
        """Something is not as it was: the file is to be written soon."""
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(self._pause_s, self.write)

    def write(self) -> None:
        """Write it now.  What is in the way of that is said once; the file is as it was then."""
        self.cancel()
        began = time.monotonic()
        fresh = self._file.with_suffix(".new")
        try:
            fresh.write_text(self._state().model_dump_json())
            fresh.replace(self._file)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            if not self._failed:
                log.warning(
                    "%s: %s: a successor would not know of the last changes", self._file, error.strerror
                )
            self._failed = True
        else:
            if self._failed:
                log.info("%s: can be written again", self._file)
            self._failed = False
        self._written()
        self._pause_s = max(AGAIN_S if self._failed else SOON_S, SHARE * (time.monotonic() - began))
        if self._failed:
            self.changed()

    def cancel(self) -> None:
        """Do not write it, for the time being."""
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def remove(self) -> None:
        """There is nothing any more to be known."""
        self.cancel()
        self._file.unlink(missing_ok=True)
