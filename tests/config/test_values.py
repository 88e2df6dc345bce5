from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.config import values
from epaird.config.values import Seconds, WholeNumber, dotted
from epaird.names.grammar import shown

EXAMPLE = WholeNumber(2, 9, upper_limit="a hand's 9 fingers")
TOML_VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes() | st.dates() | st.times(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=4,
)
READERS: list[Callable[[object], object]] = [
    EXAMPLE,
    Seconds(0.5, 60),
    values.number_or("auto", EXAMPLE),
    values.one_of("this", "that"),
    values.boolean,
    values.device_name,
    values.namespace_name,
    values.namespace,
    values.socket_path,
    values.hardware_address,
    values.hardware_address_or_stable,
    values.peer,
    values.list_of("[1]"),
]


def refusal(reader: Callable[[object], object], value: object) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        reader(value)
    return str(caught.value)


@pytest.mark.parametrize("reader", READERS)
@given(value=TOML_VALUES | st.from_regex(r"[0-9a-f.:/%\[\]]{1,20}", fullmatch=True))
def test_any_value_is_accepted_or_refused(reader: Callable[[object], object], value: object) -> None:
    try:
        accepted, reason = reader(value), ""
    except ValueError as error:
        accepted, reason = None, str(error)
    if reason:
        assert reason.isprintable()
        assert len(reason) < 1000
    else:
        assert reader(accepted) == accepted


def test_whole_numbers() -> None:
    assert EXAMPLE(2) == 2
    assert EXAMPLE(9) == 9
    assert refusal(EXAMPLE, 1) == "1 is less than 2, the least allowed"
    assert refusal(EXAMPLE, 10) == "10 is more than a hand's 9 fingers"
    assert refusal(EXAMPLE, 3.0) == "3.0 is not a whole number from 2 to 9"
    assert refusal(EXAMPLE, True) == "true is not a whole number from 2 to 9"
    assert refusal(EXAMPLE, "3") == '"3" is text, leave the quotes out'
    assert refusal(EXAMPLE, "three") == '"three" is not a whole number from 2 to 9'
    assert refusal(EXAMPLE, 16**5000) == f"0x1{'0' * 37}... is more than a hand's 9 fingers"


def test_the_limits_of_a_number_are_in_the_message_unless_they_have_words() -> None:
    assert refusal(WholeNumber(2, 9), 10) == "10 is more than 9, the most allowed"
    assert refusal(WholeNumber(2, 9, lower_limit="a pair's 2"), 1) == "1 is less than a pair's 2"


@pytest.mark.parametrize("value", [0, 0.5, 1, 59.9, 60, -0.0])
def test_durations(value: float) -> None:
    found = Seconds(0.5, 60)(value)
    assert found == value
    assert isinstance(found, float)


@pytest.mark.parametrize(
    "value", [0.49, 60.1, -1, True, False, "1", None, float("nan"), float("inf"), 1 << 5000]
)
def test_durations_outside_of_the_limits_and_other_values_are_refused(value: object) -> None:
    reason = "is not a number of seconds from 0.5 to 60, or 0"
    assert refusal(Seconds(0.5, 60), value) == f"{shown(value)} {reason}"


def test_words() -> None:
    reader = values.one_of("a", "b", "c")
    assert reader("b") == "b"
    assert refusal(reader, "B") == '"B" is not a, b or c'
    auto = values.number_or("auto", EXAMPLE)
    assert auto("auto") == "auto"
    assert auto(3) == 3
    assert refusal(auto, "many") == '"many" is not "auto" or a whole number from 2 to 9'


def test_true_and_false() -> None:
    assert values.boolean(False) is False
    assert refusal(values.boolean, "true") == '"true" is text, leave the quotes out'
    assert refusal(values.boolean, "yes") == '"yes" is not true or false'
    assert refusal(values.boolean, 1) == "1 is not true or false"


def test_namespaces_and_paths() -> None:
    assert values.namespace("red") == "red"
    assert values.namespace("/proc/4711/ns/net") == "/proc/4711/ns/net"
    assert refusal(values.namespace, "netns/red") == (
        '"netns/red" is not an absolute path, it must start with /'
    )
    assert "leave the key out" in refusal(values.namespace, "")
    assert values.socket_path("/run/x.sock") == Path("/run/x.sock")
    assert refusal(values.namespace, "/run/a\nb") == (
        '"/run/a\\nb" has a character in it that does not print'
    )
    assert len(str(values.socket_path("/" + "x" * 106))) == 107
    assert "has 108 bytes, a socket's path has at most 107" in refusal(values.socket_path, "/" + "x" * 107)


def test_names() -> None:
    assert values.device_name("eth0") == "eth0"
    assert refusal(values.device_name, "lo") == '"lo" is taken: every namespace has a lo of its own'
    assert refusal(values.device_name, 3) == '3 is not a device\'s name, as in "eth0"'
    assert values.namespace_name("red") == "red"
    assert "has a / in it" in refusal(values.namespace_name, "/run/netns/red")
    assert values.peer("epair1b") == "epair1b"
    assert values.peer("") == ""
    assert refusal(values.peer, "epair1") == '"epair1" is not a half\'s name, as in "epair1b"'
    assert refusal(values.peer, 1) == '1 is not a half\'s name, as in "epair1b", or "" for none'


def test_hardware_addresses() -> None:
    for reader in (values.hardware_address, values.hardware_address_or_stable):
        assert reader("02:5D:11:22:33:0A") == "02:5d:11:22:33:0a"
        assert refusal(reader, 2) == '2 is not a hardware address, as in "02:5d:11:22:33:0a"'
    assert values.hardware_address_or_stable("stable") == "stable"
    assert '"stable" is not a hardware address' in refusal(values.hardware_address, "stable")


def test_lists() -> None:
    assert values.list_of('["x"]')(["a"]) == ["a"]
    assert refusal(values.list_of('["x"]'), "a") == '"a" is not a list, write ["a"]'
    assert refusal(values.list_of('["x"]'), 3) == '3 is not a list, as in ["x"]'
    assert refusal(values.list_of("[{ x = 3 }]"), "a") == '"a" is not a list, as in [{ x = 3 }]'


def test_locations_are_written_as_in_the_file() -> None:
    assert dotted(("epair", "epair0", "a", "addresses", 1)) == "epair.epair0.a.addresses[1]"
    assert dotted(("epair", "a key\n", "x")) == 'epair."a key\\n".x'
    assert dotted(("",)) == '""'


def test_values_are_shown_on_one_line() -> None:
    assert shown("a\nb") == '"a\\nb"'
    assert shown(True) == "true"
    assert shown(3) == "3"
    assert shown(10**39) == "1" + 39 * "0"
    assert shown(10**40) == "1" + 39 * "0" + "..."
    assert shown(float("inf")) == "inf"
    assert shown([1]) == "a list"
    assert shown({}) == "a table"
    assert shown(None) == '"None"'
    assert shown(datetime(2026, 1, 2, tzinfo=UTC)) == "the date or time 2026-01-02 00:00:00+00:00"


@pytest.mark.parametrize(
    "name", ["lock", "state.json", "state.journal", "namespaces.json.new", "worker-77.sock"]
)
def test_a_control_socket_has_a_name_that_nothing_else_in_its_directory_has(name: str) -> None:
    with pytest.raises(ValueError, match="is the name of another file of the daemon"):
        values.socket_path(f"/run/epaird/{name}")
    assert values.socket_path(f"/run/epaird/{name}.sock")


@pytest.mark.parametrize("path", ["/", "/run/", "/run/.", "/run/.."])
def test_a_control_socket_is_no_directory(path: str) -> None:
    with pytest.raises(ValueError, match="is a directory, the path of the socket itself is needed"):
        values.socket_path(path)
