from __future__ import annotations

from epaird.dataplane.spin import REST, REST_MAX, TAKEN_NS, VAIN_MAX, Spin

TURN_NS = 2_000
"""A turn of the loop."""


def poll(spin: Spin, now: int, until: int) -> int:
    """Poll, with the core to itself, until it may sleep or ``until``; return the time then."""
    while now < until:
        now += TURN_NS
        if not spin.poll_again(now):
            break
    return now


def spin_in_vain(spin: Spin, now: int) -> int:
    """Forward a burst after which none arrives; return the time when it has stopped polling."""
    assert spin.forwarded(now)
    stopped = poll(spin, now, now + 10**9)
    assert stopped == now + 50_000
    return stopped


def test_it_polls_for_a_while_after_the_last_frame() -> None:
    spin = Spin(50)
    assert spin.forwarded(0)
    assert poll(spin, 0, 40_000) == 40_000
    assert not spin.forwarded(45_000), "it is polling already"
    assert poll(spin, 45_000, 10**9) == 95_000
    assert spin.forwarded(100_000)


def test_the_time_is_in_microseconds() -> None:
    spin = Spin(50)
    spin.forwarded(7)
    for now in range(7, 50_000, 5_000):
        assert spin.poll_again(now)
    assert spin.poll_again(50_006)
    assert not spin.poll_again(50_007)
    spin.tune(20)
    spin.forwarded(60_000)
    for now in range(60_000, 80_000, 5_000):
        assert spin.poll_again(now)
    assert spin.poll_again(79_999)
    assert not spin.poll_again(80_000)


def test_a_worker_that_has_slept_for_long_polls_as_before() -> None:
    spin = Spin(50)
    for begin in (0, 10**9):
        assert spin.forwarded(begin)
        assert poll(spin, begin, begin + 10**9) == begin + 50_000


def test_the_time_can_be_changed() -> None:
    spin = Spin(50)
    spin.tune(0)
    assert not spin.forwarded(0)
    spin.tune(20)
    assert spin.forwarded(0)
    assert poll(spin, 0, 10**9) == 20_000


def test_zero_disables_it() -> None:
    spin = Spin(0)
    assert not spin.forwarded(0)
    assert not spin.poll_again(0)


def test_spins_in_vain_make_it_rest_and_try_again_less_and_less_often() -> None:
    spin = Spin(50)
    now = 0
    for _ in range(VAIN_MAX):
        now = spin_in_vain(spin, now)
    for rest in (REST, 2 * REST, 4 * REST, 8 * REST, 16 * REST, REST_MAX, REST_MAX):
        for _ in range(rest):
            assert not spin.forwarded(now)
        now = spin_in_vain(spin, now)


def test_a_find_ends_the_rest() -> None:
    spin = Spin(50)
    now = 0
    for _ in range(VAIN_MAX):
        now = spin_in_vain(spin, now)
    for _ in range(REST):
        spin.forwarded(now)
    assert spin.forwarded(now)
    now = poll(spin, now, now + 10_000)
    spin.forwarded(now)
    now = poll(spin, now, 10**9)
    for _ in range(VAIN_MAX):
        now = spin_in_vain(spin, now)
    for _ in range(REST):
        assert not spin.forwarded(now)
    spin_in_vain(spin, now)


def lose_the_core(spin: Spin, now: int) -> int:
    """Forward a burst, offer the core, and find no frame when it comes back; return the time then."""
    assert spin.forwarded(now)
    assert spin.poll_again(now + TAKEN_NS + 1), "a frame may have arrived by then"
    assert not spin.poll_again(now + TAKEN_NS + 1 + TURN_NS)
    return now + 2 * TAKEN_NS


def test_a_worker_that_lost_the_core_and_found_nothing_sleeps_and_later_rests() -> None:
    spin = Spin(50)
    now = 0
    for _ in range(VAIN_MAX):
        now = lose_the_core(spin, now)
    for _ in range(REST):
        assert not spin.forwarded(now)
    lose_the_core(spin, now)


def test_a_worker_that_lost_the_core_and_found_a_frame_continues() -> None:
    spin = Spin(50)
    now = 0
    assert spin.forwarded(now)
    for _ in range(100):
        now += TAKEN_NS + 1
        assert spin.poll_again(now)
        assert not spin.forwarded(now + TURN_NS)
        now += TURN_NS
