"""The contents of the service manager's store."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from epaird.control.handover.fdstore import FdStore
from epaird.control.handover.notify import Notifier
from tests.deploy.manager import ServiceManager


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ServiceManager]:
    with ServiceManager(str(tmp_path / "notify")) as manager:
        yield manager


@pytest.fixture
def fds() -> Iterator[tuple[int, ...]]:
    made = tuple(os.memfd_create(f"device{number}") for number in range(3))
    yield made
    for fd in made:
        os.close(fd)


def test_the_store_has_the_wanted_descriptors_and_no_others(
    manager: ServiceManager, fds: tuple[int, ...]
) -> None:
    store = FdStore(Notifier(manager.address))
    one, other = object(), object()

    def stored() -> list[str]:
        manager.receive_all()
        return [name for name, _ in manager.unit.stored]

    store.update({"epair0a": (one, fds[:2]), "epair0b": (other, fds[2:])})
    assert stored() == ["epair0a", "epair0a", "epair0b"]
    sent = len(manager.messages)
    store.update({"epair0a": (one, fds[:2]), "epair0b": (other, fds[2:])})
    assert stored()
    assert len(manager.messages) == sent
    store.update({"epair0b": (one, fds[2:])})
    assert stored() == ["epair0b"]
    assert manager.messages[sent:][0] == {"FDSTOREREMOVE": "1", "FDNAME": "epair0a"}
    assert len(manager.messages) == sent + 3, "a device of another owner is stored anew"
    store.forget(["epair9a", "epair0b"])
    assert stored() == []


def test_without_a_manager_nothing_happens(fds: tuple[int, ...]) -> None:
    store = FdStore(Notifier(None))
    store.update({"epair0a": (object(), fds)})
    store.update({})
