"""The comparison of footprints."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.soak.footprint import CONTROL_MEMORY, descriptors, private_kb, rows


def test_memory_may_grow_within_its_tolerance_and_descriptors_may_not() -> None:
    before = {CONTROL_MEMORY: 50_000, "control plane, tasks": 8}
    assert all(row.flat for row in rows(before, {CONTROL_MEMORY: 53_072, "control plane, tasks": 8}))
    found = {row.what: row.flat for row in rows(before, {CONTROL_MEMORY: 53_073, "control plane, tasks": 9})}
    assert found == {CONTROL_MEMORY: False, "control plane, tasks": False}


def test_a_decrease_is_flat_and_a_new_resource_is_not() -> None:
    found = rows({"workers, descriptors, tun": 8}, {"workers, descriptors, inotify": 1})
    assert {row.what: row.flat for row in found} == {
        "workers, descriptors, tun": True,
        "workers, descriptors, inotify": False,
    }


def test_descriptors_are_counted_by_kind(tmp_path: Path) -> None:
    own = [os.getpid()]
    before = descriptors(own)
    read, write = os.pipe()
    file = os.open(tmp_path / "file", os.O_CREAT)
    ledger = os.memfd_create("epaird-ledger")
    try:
        found = descriptors(own)
    finally:
        for fd in (read, write, file, ledger):
            os.close(fd)
    more = {kind: number - before.get(kind, 0) for kind, number in found.items()}
    assert {kind: number for kind, number in more.items() if number} == {"pipe": 2, "file": 1, "ledger": 1}


def test_private_memory_is_the_memory_written_to() -> None:
    before = private_kb([os.getpid()])
    kept = bytearray(b"x" * (32 << 20))
    assert private_kb([os.getpid()]) - before == pytest.approx(32 << 10, rel=0.2)
    assert kept
