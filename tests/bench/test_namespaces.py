from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from epaird.bench.namespaces import BenchNamespaces
from epaird.kernel import namespace
from epaird.kernel.errors import KernelError

pytestmark = pytest.mark.real


def test_three_namespaces_without_names() -> None:
    with BenchNamespaces() as namespaces:
        members = (namespaces.home, namespaces.a, namespaces.b)
        identities = {namespace.identity(member.path) for member in members}
        assert len(identities | {namespace.identity(None)}) == 4
        assert all(namespace.name_of(identity).startswith("net:[") for identity in identities)


def test_another_process_can_use_the_path() -> None:
    with BenchNamespaces() as namespaces:
        command = ["stat", "-L", "-c", "%i", namespaces.a.path]
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        assert int(shown) == namespace.identity(namespaces.a.path).inode


def test_a_process_started_inside_stays_there() -> None:
    with BenchNamespaces() as namespaces:
        with namespaces.b.inside():
            child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        with child:
            inode = Path(f"/proc/{child.pid}/ns/net").stat().st_ino
        assert inode == namespace.identity(namespaces.b.path).inode


def test_the_block_releases_them() -> None:
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with BenchNamespaces() as namespaces:
        path = namespaces.a.path
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    with pytest.raises(KernelError):
        namespace.identity(path)


def test_a_failure_releases_those_created_before(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    created: list[str] = []
    create = namespace.create

    def create_two(name: str) -> None:
        if len(created) == 2:
            raise KernelError(28, "no space")
        created.append(name)
        create(name)

    monkeypatch.setattr(namespace, "create", create_two)
    with pytest.raises(KernelError, match="no space"), BenchNamespaces():
        pass
    assert set(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert not any(Path(namespace.path_of(name)).exists() for name in created)
