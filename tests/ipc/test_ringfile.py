"""The memory file of a ring."""

from __future__ import annotations

import os
import struct

import pytest

from epaird.ipc.ringfile import (
    INTAKE,
    LOG_ENTRIES,
    LOGGED,
    OCTETS_PER_RECORD,
    PAGE,
    RECORD,
    SLACK,
    create,
    holds,
    logged,
    same,
    sizes,
)


def test_it_is_sparse_and_its_size_is_sealed() -> None:
    fd = create("epair0a", 1 << 30)
    records, octets = sizes(fd)
    assert octets == (1 << 30) + SLACK
    assert records == (1 << 30) // OCTETS_PER_RECORD
    assert holds(fd, 1 << 30)
    assert not holds(fd, (1 << 30) + 1)
    assert os.fstat(fd).st_blocks * 512 < 1 << 20
    for size in (0, 1 << 31):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    os.close(fd)


def test_a_small_buffer_gets_what_a_burst_needs() -> None:
    fd = create("epair0a", 1)
    assert sizes(fd) == (1 << 18, SLACK + PAGE)
    os.close(fd)


def test_only_descriptors_of_one_file_are_the_same_ring() -> None:
    fd, other = create("epair0a", 1), create("epair0a", 1)
    copy = os.dup(fd)
    assert same(fd, copy)
    assert not same(fd, other)
    for each in (fd, other, copy):
        os.close(each)


def test_other_files_are_refused() -> None:
    pipe, end = os.pipe()
    empty = os.memfd_create("empty", os.MFD_ALLOW_SEALING)
    for fd in (pipe, empty):
        with pytest.raises(ValueError, match="not a ring"):
            sizes(fd)
    for place in (8, 16, 24):
        ring = create("epair0a", 1)
        os.pwrite(ring, struct.pack("=Q", 12345), place)
        with pytest.raises(ValueError, match=r"not a ring|contradict"):
            sizes(ring)
        os.close(ring)
    for fd in (pipe, end, empty):
        os.close(fd)


def test_a_record_fills_a_cache_line() -> None:
    assert RECORD.size == 64


def test_the_log_of_a_ring_that_another_process_damages_is_bounded() -> None:
    fd = create("epair0a", 1)
    for count in ((1 << 64) - 1, 1 << 40, 5):
        os.pwrite(fd, struct.pack("=Q", count), INTAKE * PAGE + LOGGED * 8)
        assert len(logged(fd)) == min(count, LOG_ENTRIES)
    os.close(fd)
