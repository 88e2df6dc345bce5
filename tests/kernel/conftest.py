"""Devices and namespaces for one test, removed after it."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from epaird.kernel import namespace, tun
from epaird.kernel.errors import KernelError
from epaird.kernel.statistics import LinkReader
from epaird.kernel.watch import LinkWatch

_numbers = itertools.count()
_PREFIX = f"ept{os.getpid() % 100_000}k"


class MakeTap(Protocol):
    """Opens a TAP under a unique name."""

    def __call__(self, *, queues: int = 1, offload: bool = True) -> tun.Tap: ...


@pytest.fixture
def new_name() -> Callable[[], str]:
    """Return a name that no other test uses, short enough for a device."""
    return lambda: f"{_PREFIX}{next(_numbers) % 10_000}"


@pytest.fixture(autouse=True)
def _no_namespace_remains() -> Iterator[None]:
    yield
    assert not list(Path(namespace.RUN_DIRECTORY).glob(f"{_PREFIX}*"))


@pytest.fixture
def new_namespace(new_name: Callable[[], str]) -> Iterator[Callable[[], str]]:
    made: list[str] = []

    def make() -> str:
        name = new_name()
        namespace.create(name)
        made.append(name)
        return name

    yield make
    for name in made:
        with contextlib.suppress(KernelError):
            namespace.remove(name)


@pytest.fixture
def new_tap(new_name: Callable[[], str]) -> Iterator[MakeTap]:
    made: list[tun.Tap] = []

    def make(*, queues: int = 1, offload: bool = True) -> tun.Tap:
        tap = tun.open_tap(new_name(), queues=queues, offload=offload)
        made.append(tap)
        return tap

    yield make
    for tap in made:
        tap.close()


@pytest.fixture
def reader() -> Iterator[LinkReader]:
    with contextlib.closing(LinkReader()) as reader:
        yield reader


@pytest.fixture
def watch() -> Iterator[LinkWatch]:
    with contextlib.closing(LinkWatch()) as watch:
        yield watch
