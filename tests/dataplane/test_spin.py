from __future__ import annotations

from epaird.dataplane.spin import REST, VAIN_MAX, Spin


def look_in_vain(spin: Spin, now: int) -> int:
    """Forward something after which nothing comes; the time when it has stopped looking."""
    assert spin.forwarded(now)
    assert spin.look_again(now + 49_999)
    assert not spin.look_again(now + 50_000)
    return now + 50_000


def test_it_looks_for_so_long_after_the_last_frame() -> None:
    spin = Spin(50)
    assert spin.forwarded(0)
    assert spin.look_again(40_000)
    assert not spin.forwarded(45_000), "it is looking already"
    assert spin.look_again(94_999)
    assert not spin.look_again(95_000)
    assert spin.forwarded(100_000)


def test_zero_is_never() -> None:
    spin = Spin(0)
    assert not spin.forwarded(0)
    assert not spin.look_again(0)


def test_looks_in_vain_make_it_rest_and_try_again() -> None:
    spin = Spin(50)
    now = 0
    for _ in range(VAIN_MAX):
        now = look_in_vain(spin, now)
    for _ in range(3):
        for _ in range(REST):
            assert not spin.forwarded(now)
        now = look_in_vain(spin, now)


def test_a_find_ends_the_rest() -> None:
    spin = Spin(50)
    now = 0
    for _ in range(VAIN_MAX):
        now = look_in_vain(spin, now)
    for _ in range(REST):
        spin.forwarded(now)
    assert spin.forwarded(now)
    spin.forwarded(now + 10_000)
    assert not spin.look_again(now + 60_000)
    for _ in range(VAIN_MAX):
        now = look_in_vain(spin, now + 100_000)
    assert not spin.forwarded(now)
