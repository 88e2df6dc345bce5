"""The choice of the next operation of an adversary."""

from __future__ import annotations

from random import Random
from typing import Final

from tests.soak.expected import Expected, names
from tests.soak.operations.adversaries import (
    NAMES,
    WHILE_UNREAD,
    DescriptorsExhausted,
    HostileName,
    KilledDuringAdoption,
    LogUnread,
    RunDirectoryEmptied,
    RunDirectoryFull,
)
from tests.soak.operations.failures import ControlDies, Upgrade, WorkersDie
from tests.soak.operations.operation import Draw, Operation

BETWEEN: Final = (WorkersDie(), Upgrade(), ControlDies())
"""Operations between the steps of another one."""


def hostile_name(choose: Random, expected: Expected) -> Operation | None:
    """Rename a device to any bytes."""
    if not expected.mutable:
        return None
    name, found = choose.choice(list(expected.mutable.items()))
    device = choose.choice(names(name, found))
    _, settings = expected.devices[device]
    where = device, getattr(settings, "name", "") or device, settings.netns
    return HostileName(_between(choose), *where, choose.choice(NAMES), choose.choice((1, 1, 100)))


def kill_during_adoption(choose: Random, expected: Expected) -> Operation:
    """Kill the control plane, and workers while its successor starts."""
    numbers = choose.sample(range(expected.workers), choose.randint(1, expected.workers))
    first_ms = choose.randrange(1500) if choose.random() < 0.3 else None
    return KilledDuringAdoption(tuple(sorted(numbers)), choose.randrange(60), first_ms)


def log_unread(choose: Random, _expected: Expected) -> Operation:
    """Read nothing of the log for a while."""
    return LogUnread(choose.choice(WHILE_UNREAD))


def run_directory_full(choose: Random, _expected: Expected) -> Operation:
    """Fill the run directory for a while."""
    return RunDirectoryFull(_between(choose))


def run_directory_emptied(choose: Random, _expected: Expected) -> Operation:
    """Remove every file of the run directory."""
    return RunDirectoryEmptied(_between(choose))


def descriptors_exhausted(choose: Random, expected: Expected) -> Operation:
    """Lower the limit of descriptors for a while."""
    return DescriptorsExhausted(choose.randrange(expected.workers), choose.choice((1, 5, 10)))


def _between(choose: Random) -> Operation | None:
    return choose.choice((None, *BETWEEN))


HOSTILITIES: Final[dict[Draw, int]] = {
    hostile_name: 6,
    kill_during_adoption: 5,
    log_unread: 3,
    run_directory_full: 3,
    run_directory_emptied: 2,
    descriptors_exhausted: 3,
}
"""The relative frequency of each kind."""
