"""Namespaces that the daemon created, and others of their name."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Iterator

import pytest

from epaird.control.machine.ownednamespaces import OwnedNamespaces, identified
from epaird.kernel import namespace
from epaird.kernel.errors import KernelError
from epaird.kernel.inotify import Inotify
from epaird.kernel.namespace import Fingerprint, Identity
from tests.kernel.conftest import new_name  # noqa: F401  fixture
from tests.loop import on_loop
from tests.waiting import eventually

pytestmark = pytest.mark.real


@pytest.fixture
def created(new_name: Callable[[], str]) -> Iterator[tuple[str, Fingerprint]]:  # noqa: F811
    name, found = new_name(), list[Fingerprint]()
    namespace.create(name, found.append)
    yield name, found[0]
    with contextlib.suppress(KernelError):
        namespace.remove(name)


def make_again(name: str, before: Identity) -> None:
    """Replace a namespace by another one, with the same inode if the kernel gives it."""
    for _ in range(50):
        namespace.remove(name)
        namespace.create(name)
        if namespace.identity(name) == before:
            return


def test_a_namespace_that_was_replaced_is_another_one(created: tuple[str, Fingerprint]) -> None:
    name, fingerprint = created
    assert identified(name, fingerprint).fingerprint == fingerprint
    make_again(name, fingerprint.identity)
    for refused in (
        lambda: identified(name, fingerprint),
        lambda: namespace.remove(name, fingerprint),
    ):
        with pytest.raises(KernelError, match=f"^namespace {name}: was replaced by another one$") as no:
            refused()
        assert no.value.errno == errno.ESTALE
    assert namespace.identity(name), "it is another one's and stays"


def test_the_loss_of_a_name_is_reported_once(created: tuple[str, Fingerprint]) -> None:
    name, fingerprint = created
    lost: list[Identity] = []

    async def replace() -> None:
        owned = OwnedNamespaces()
        owned.add(name, identified(name, fingerprint))
        assert owned.get(name) == owned.get(f"/run/netns/{name}") == identified(name, fingerprint)
        owned.report(lost.append)
        assert lost == []
        make_again(name, fingerprint.identity)
        await eventually(lambda: lost)
        assert owned.get(name) is None
        owned.close()

    on_loop(replace)()
    assert lost == [fingerprint.identity]


def test_a_loss_before_anybody_listens_is_kept(created: tuple[str, Fingerprint]) -> None:
    name, fingerprint = created
    lost: list[Identity] = []

    async def lose() -> None:
        owned = OwnedNamespaces()
        owned.add(name, identified(name, fingerprint))
        namespace.remove(name)
        owned._name_removed()
        owned.report(lost.append)
        owned.close()

    on_loop(lose)()
    assert lost == [fingerprint.identity]


def test_without_inotify_a_check_notices_the_loss(
    created: tuple[str, Fingerprint], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, fingerprint = created
    lost: list[Identity] = []

    def refuse(_: Inotify) -> None:
        raise KernelError(errno.EMFILE, "too many inotify instances")

    async def lose() -> None:
        monkeypatch.setattr(Inotify, "__init__", refuse)
        owned = OwnedNamespaces()
        owned.add(name, identified(name, fingerprint))
        owned.report(lost.append)
        namespace.remove(name)
        owned.check()
        owned.close()

    on_loop(lose)()
    assert lost == [fingerprint.identity]
