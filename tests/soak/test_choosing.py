"""The sequence of operations: reproducible, complete, and consistent with the expected state."""

from __future__ import annotations

from itertools import islice

from tests.soak.expected import STEADY, Expected
from tests.soak.operations.choosing import KINDS, WARM_UP, operations, restore


def sequence(seed: int, count: int) -> tuple[list[str], Expected]:
    """Return the first operations and the expected state after them."""
    expected, found = Expected(), []
    for operation in islice(operations(seed, expected), count):
        operation.expect(expected)
        found.append(str(operation))
    return found, expected


def test_a_seed_makes_the_same_sequence_again() -> None:
    assert sequence(4711, 300)[0] == sequence(4711, 300)[0]
    assert sequence(4711, 300)[0] != sequence(4712, 300)[0]


def test_the_first_operations_are_of_every_kind() -> None:
    for seed in range(20):
        expected = Expected()
        types = set()
        for operation in islice(operations(seed, expected), WARM_UP):
            operation.expect(expected)
            types.add(type(operation).__name__)
        assert {"Create", "Destroy", "Reload", "Upgrade", "WorkerDies", "Refused"} & types, seed
        assert len(types) > len(KINDS) / 2


def test_the_expected_state_is_always_consistent_and_can_be_restored() -> None:
    for seed in range(20):
        _, expected = sequence(seed, 200)
        halves = {device for device in expected.devices if not device.startswith("lo")}
        assert expected.peers.keys() == halves
        assert all(expected.peers[peer] == half for half, peer in expected.peers.items() if peer)
        assert expected.runtime <= expected.interfaces.keys()
        for operation in restore(expected):
            operation.expect(expected)
        assert expected.interfaces == dict(STEADY)
        assert not expected.runtime
        assert not expected.namespace_made
        assert expected.workers == 2
