"""Actions as lines for people."""

from __future__ import annotations

from epaird.plan.actions import MARKS, Action, Detail, Verb, lines, summary


def one_of_each() -> tuple[Action, ...]:
    verbs: tuple[Verb, ...] = (
        "create",
        "destroy",
        "change",
        "recreate",
        "restore",
        "adopt",
        "restart",
        "note",
    )
    return tuple(Action(verb, "epair", f"epair{number}") for number, verb in enumerate(verbs))


def test_each_line_has_its_verb_and_its_mark() -> None:
    written = [(verb, line) for verb, line in lines(one_of_each()) if verb is not None]
    assert {verb for verb, _ in written} == set(MARKS)
    assert all(line.startswith(MARKS[verb]) for verb, line in written)


def test_restored_interfaces_count_as_changed_and_adopted_ones_not_at_all() -> None:
    assert summary(one_of_each()) == (
        "1 to create, 2 to change, 1 to recreate, 1 to destroy, 1 to restart the daemon for"
    )
    assert summary(()) == "0 to create, 0 to change, 0 to recreate, 0 to destroy"


def test_adopted_interfaces_alone_need_nothing() -> None:
    adopted = Action("adopt", "epair", "epair0", (), "created at runtime")
    assert list(lines([adopted])) == [
        ("adopt", "    epair0  # created at runtime"),
        (None, "Nothing to do: everything is as the configuration says."),
    ]


def test_adopted_interfaces_are_listed_beside_what_changes() -> None:
    both = [Action("adopt", "epair", "epair0"), Action("destroy", "epair", "epair1")]
    assert [line for _, line in lines(both)] == [
        "    epair0",
        "  - epair1",
        "",
        "Plan: 0 to create, 0 to change, 0 to recreate, 1 to destroy.",
    ]


def test_the_details_of_a_new_interface_are_its_values() -> None:
    detail = Detail("a.mtu", "", "9000")
    written: dict[Verb, str] = {"create": "      a.mtu = 9000", "change": "      a.mtu: (missing) -> 9000"}
    for verb, expected in written.items():
        assert [line for _, line in lines([Action(verb, "epair", "epair0", (detail,))])][1] == expected


def test_only_a_namespace_is_named_with_its_kind() -> None:
    assert str(Action("create", "namespace", "red")) == "namespace red"
    assert str(Action("create", "epair", "epair0", (), "why")) == "epair0  # why"
