"""Policy rules of loopbacks: each sequence of changes, applied to a list."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from epaird.kernel import policy
from epaird.kernel.policy import TABLES, missing_rules, policy_routes, policy_rules, rule_changes
from epaird.kernel.requests import Address, Route, Rule

FOUR, SIX = socket.AF_INET, socket.AF_INET6
ADDRESSES = ("10.88.7.1/24", "10.88.7.2/24", "10.99.0.1/32", "fd88:7::1/64", "fd88:8::1/128")


def local(family: int, priority: int) -> Rule:
    return Rule(family, priority, 255)


def untouched(family: int) -> tuple[Rule, ...]:
    """Return the rules that a new namespace has."""
    return local(family, 0), Rule(family, 32766, 254)


def of_earlier_versions(family: int, table: int, name: str) -> tuple[Rule, ...]:
    """Return the rules that versions 0.1.0 and 0.2.0 installed for a loopback."""
    network = "10.88.7.0/24" if family == FOUR else "fd88:7::/64"
    return (
        Rule(family, 10, 255, iif=name),
        Rule(family, 20, table, oif=name),
        Rule(family, 30, table, to=network),
    )


def settle(present: Sequence[Rule], tables: Sequence[int], wanted: Sequence[Rule]) -> list[Rule]:
    """Apply changes until there are none; local traffic is delivered at every moment."""
    rules = list(present)
    for _ in range(5):
        changes = rule_changes(rules, tables, wanted)
        if not changes.remove and not changes.add:
            return rules
        for rule in changes.remove:
            rules.remove(rule)
            assert delivering(rules)
        for rule in changes.add:
            assert rule not in rules, "the kernel refuses a second one"
            rules.append(rule)
            assert delivering(rules)
    raise AssertionError("the changes have no end")


def delivering(rules: Sequence[Rule]) -> bool:
    return all(any(local(family, at) in rules for at in (0, 100)) for family in (FOUR, SIX))


FRESH = (*untouched(FOUR), *untouched(SIX))
FOREIGN = (Rule(FOUR, 30, 77, to="10.5.0.0/16"), Rule(SIX, 10, 255, iif="eth0"), Rule(FOUR, 20, 255, oif="x"))

addresses = st.lists(st.sampled_from(ADDRESSES), unique=True).map(lambda found: tuple(map(Address, found)))
loopbacks = st.dictionaries(st.sampled_from(TABLES[:3]), addresses, max_size=3)


def rules_of(wanted: dict[int, tuple[Address, ...]]) -> list[Rule]:
    return [rule for table, each in wanted.items() for rule in policy_rules(each, table)]


@given(st.lists(loopbacks, min_size=1, max_size=4), st.booleans(), st.booleans())
def test_any_sequence_ends_with_the_wanted_rules(
    sequence: list[dict[int, tuple[Address, ...]]], upgraded: bool, foreign: bool
) -> None:
    rules = list(FRESH)
    if upgraded:
        rules = [rule for rule in rules if rule.priority]
        for family in (FOUR, SIX):
            rules += [local(family, 100), *of_earlier_versions(family, TABLES[1], "lo1")]
    others = FOREIGN if foreign else ()
    rules += others
    for wanted in sequence:
        rules = settle(rules, TABLES[:3], rules_of(wanted))
        moved = {rule.family for rule in rules_of(wanted)}
        expected = [*others, *rules_of(wanted)]
        for family in (FOUR, SIX):
            expected += [local(family, 100 if family in moved else 0), untouched(family)[1]]
        assert sorted(map(repr, rules)) == sorted(map(repr, expected))
        assert missing_rules(rules, rules_of(wanted)) == ()
    assert sorted(map(repr, settle(rules, TABLES[:3], ()))) == sorted(map(repr, (*FRESH, *others)))


@given(loopbacks, st.integers(0, 20))
def test_a_daemon_that_is_killed_leaves_what_another_one_completes(
    wanted: dict[int, tuple[Address, ...]], at: int
) -> None:
    for before, goal in ((FRESH, rules_of(wanted)), (settle(FRESH, TABLES[:3], rules_of(wanted)), [])):
        rules = list(before)
        left = at
        for _ in range(3):
            changes = rule_changes(rules, TABLES[:3], goal)
            for change, rule in [(rules.remove, rule) for rule in changes.remove] + [
                (rules.append, rule) for rule in changes.add
            ]:
                if left:
                    left -= 1
                    change(rule)
        assert sorted(map(repr, settle(rules, TABLES[:3], ()))) == sorted(map(repr, FRESH))


def test_rules_of_other_tables_are_left_alone() -> None:
    rules = settle(FRESH, TABLES[:1], policy_rules([Address("10.88.7.1/24")], TABLES[0]))
    rules = settle(rules, TABLES[1:2], policy_rules([Address("10.88.8.1/24")], TABLES[1]))
    rules = settle(rules, TABLES[1:2], ())
    assert local(FOUR, 100) in rules
    assert settle(rules, (), ()) == rules


def test_what_is_missing() -> None:
    wanted = policy_rules([Address("10.88.7.1/24")], TABLES[7])
    assert [str(rule) for rule in missing_rules(FRESH, wanted)] == [
        f"30: from all to 10.88.7.1/32 iif lo lookup {TABLES[7]}",
        "100: from all lookup local",
    ]
    assert policy_rules([Address("10.88.7.1/24")], None) == ()
    assert policy_routes([Address("10.88.7.1/24"), Address("fd88::1/64")], TABLES[7]) == (
        Route("10.88.7.1/32"),
        Route("fd88::1/128"),
    )
    assert policy_routes([Address("10.88.7.1/24")], None) == ()


def test_a_rule_is_replaced_when_its_selector_is_wide() -> None:
    wide = of_earlier_versions(FOUR, TABLES[1], "lo1")
    assert policy.own_rules((*FRESH, *wide), TABLES[1:2]) == (wide[1], wide[2], wide[0])
