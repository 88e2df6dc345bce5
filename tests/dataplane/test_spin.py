from __future__ import annotations

from epaird.dataplane.spin import REST, REST_MAX, TAKEN_NS, VAIN_MAX, Spin

LOOK_NS = 2_000
"""A turn of the loop."""


def look(spin: Spin, now: int, until: int) -> int:
    """Look again, with the core to itself, until told to stop or ``until``; the time then."""
    while now < until:
        now += LOOK_NS
        if not spin.look_again(now):
            break
    return now


def look_in_vain(spin: Spin, now: int) -> int:
    """Forward something after which nothing comes; the time when it has stopped looking."""
    assert spin.forwarded(now)
    stopped = look(spin, now, now + 10**9)
    assert stopped == now + 50_000
    return stopped


def test_it_looks_for_so_long_after_the_last_frame() -> None:
    spin = Spin(50)
    assert spin.forwarded(0)
    assert look(spin, 0, 40_000) == 40_000
    assert not spin.forwarded(45_000), "it is looking already"
    assert look(spin, 45_000, 10**9) == 95_000
    assert spin.forwarded(100_000)


def test_it_can_be_told_to_look_for_longer_or_not_at_all() -> None:
    spin = Spin(50)
    spin.look_for(0)
    assert not spin.forwarded(0)
    spin.look_for(20)
    assert spin.forwarded(0)
    assert look(spin, 0, 10**9) == 20_000


def test_zero_is_never() -> None:
    spin = Spin(0)
    assert not spin.forwarded(0)
    assert not spin.look_again(0)


def test_looks_in_vain_make_it_rest_and_try_again_less_and_less_often() -> None:
    spin = Spin(50)
    now = 0
    for _ in range(VAIN_MAX):
        now = look_in_vain(spin, now)
    for rest in (REST, 2 * REST, 4 * REST, 8 * REST, 16 * REST, REST_MAX, REST_MAX):
        for _ in range(rest):
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
    now = look(spin, now, now + 10_000)
    spin.forwarded(now)
    now = look(spin, now, 10**9)
    for _ in range(VAIN_MAX):
        now = look_in_vain(spin, now)
    for _ in range(REST):
        assert not spin.forwarded(now)
    look_in_vain(spin, now)


def lose_the_core(spin: Spin, now: int) -> int:
    """Forward something, offer the core, and find nothing when it comes back; the time then."""
    assert spin.forwarded(now)
    assert spin.look_again(now + TAKEN_NS + 1), "something may have come meanwhile"
    assert not spin.look_again(now + TAKEN_NS + 1 + LOOK_NS)
    return now + 2 * TAKEN_NS


def test_who_lost_the_core_and_found_nothing_sleeps_and_after_several_times_rests() -> None:
    spin = Spin(50)
    now = 0
    for _ in range(VAIN_MAX):
        now = lose_the_core(spin, now)
    for _ in range(REST):
        assert not spin.forwarded(now)
    lose_the_core(spin, now)


def test_who_lost_the_core_and_found_something_goes_on() -> None:
    spin = Spin(50)
    now = 0
    assert spin.forwarded(now)
    for _ in range(100):
        now += TAKEN_NS + 1
        assert spin.look_again(now)
        assert not spin.forwarded(now + LOOK_NS)
        now += LOOK_NS
