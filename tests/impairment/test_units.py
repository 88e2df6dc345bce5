from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.impairment import units
from epaird.impairment.units import BitRate, Duration, Percentage, Size

LIMIT = Size(0, 1 << 36, packets=1000)
LONG = Duration(0, 86400 * 10**9)
READERS: list[Callable[[object], str]] = [Duration(), Percentage(), Percentage(below=True), BitRate(), LIMIT]
VALUES = st.booleans() | st.integers() | st.floats() | st.text() | st.none() | st.lists(st.integers())
WITH_UNITS = st.from_regex(r"[0-9]{1,12}(\.[0-9]{0,6})?( ?[a-zA-Zµ%]{0,5})", fullmatch=True)


@pytest.mark.parametrize("reader", READERS, ids=repr)
@given(value=VALUES | WITH_UNITS)
def test_any_value_is_refused_in_one_line_or_made_canonical(
    reader: Callable[[object], str], value: object
) -> None:
    try:
        found, refusal = reader(value), ""
    except ValueError as error:
        found, refusal = "", str(error)
    assert refusal.isprintable() or not refusal
    assert len(refusal) < 300
    assert refusal or reader(found) == found


@pytest.mark.parametrize(
    ("reader", "value", "canonical"),
    [
        (Duration(), "100ms", "100ms"),
        (Duration(), "0.1s", "100ms"),
        (Duration(), "1500us", "1.5ms"),
        (Duration(), "10 usec", "10us"),
        (Duration(), "10µs", "10us"),
        (Duration(), "1.5s", "1.5s"),
        (Duration(), ".5secs", "500ms"),
        (Duration(), "1234567ns", "1234.567us"),
        (Duration(), "1m", "60s"),
        (Duration(), "100MS", "100ms"),
        (LONG, "5Min", "300s"),
        (Duration(most=10**15), "2h", "7200s"),
        (Duration(), "0", "0s"),
        (Percentage(), "1%", "1%"),
        (Percentage(), "01.50%", "1.5%"),
        (Percentage(), "0.0001%", "0.0001%"),
        (Percentage(), "100%", "100%"),
        (Percentage(), "0", "0%"),
        (Percentage(below=True), "99.9%", "99.9%"),
        (BitRate(), "10mbit", "10mbit"),
        (BitRate(), "10Mbit", "10mbit"),
        (BitRate(), "1000kbit", "1mbit"),
        (BitRate(), "1mbps", "8mbit"),
        (BitRate(), "1kibit", "1.024kbit"),
        (BitRate(), "2.5gbit", "2.5gbit"),
        (BitRate(), "1234567bit", "1234.567kbit"),
        (BitRate(), "0", "0bit"),
        (LIMIT, "64kb", "64kb"),
        (LIMIT, "64KB", "64kb"),
        (LIMIT, "64k", "64kb"),
        (LIMIT, "64KiB", "64kb"),
        (LIMIT, "1mbit", "128kb"),
        (LIMIT, "1536kb", "1.5mb"),
        (LIMIT, "1001b", "1001b"),
        (LIMIT, "100p", "100p"),
        (LIMIT, "100 packets", "100p"),
        (LIMIT, "0p", "0p"),
    ],
)
def test_equal_values_are_equal_texts(reader: Callable[[object], str], value: object, canonical: str) -> None:
    assert reader(value) == canonical


@pytest.mark.parametrize(
    ("reader", "value", "message"),
    [
        (Duration(), "100", '"100" has no unit, as in "100ms"'),
        (Duration(), 100, '100 has no unit, as in "100ms"'),
        (Duration(), 0, '0 has no unit, as in "0ms"'),
        (Duration(), "soon", '"soon" is not a duration, as in "100ms": the units are ns, us, ms and s'),
        (Duration(), "-1ms", '"-1ms" is negative, the least allowed is 0'),
        (Duration(), -5, "-5 is negative, the least allowed is 0"),
        (Duration(), -0.5, "-0.5 is negative, the least allowed is 0"),
        (Percentage(), "-1%", '"-1%" is negative, the least allowed is 0'),
        (BitRate(), "-1mbit", '"-1mbit" is negative, the least allowed is 0'),
        (LIMIT, "-.5kb", '"-.5kb" is negative, the least allowed is 0'),
        (
            LIMIT,
            "-",
            '"-" is not a size, as in "64kb" or "100p": the units are b, kb, mb and gb, p is packets',
        ),
        (LONG, "30", '"30" has no unit, as in "30s"'),
        (
            LONG,
            "1d",
            '"1d" is not a duration, as in "100ms": the units are ns, us, ms, s, min and h',
        ),
        (
            Duration(),
            "1fortnight",
            '"1fortnight" is not a duration, as in "100ms": the units are ns, us, ms and s',
        ),
        (Duration(), True, 'true is not a duration, as in "100ms": the units are ns, us, ms and s'),
        (Duration(), "61s", '"61s" is more than 60s, the most allowed'),
        (Duration(10**6), "1us", '"1us" is less than 1ms, the least allowed'),
        (Percentage(), "1", '"1" has no unit, write "1%" for percent, or "100%" for the fraction'),
        (Percentage(), 0.01, '0.01 has no unit, write "0.01%" for percent, or "1%" for the fraction'),
        (Percentage(), 30, '30 has no unit, write "30%" for percent'),
        (Percentage(), "1ms", '"1ms" is not a percentage, as in "1%"'),
        (Percentage(), [], 'a list is not a percentage, as in "1%"'),
        (Percentage(), "101%", '"101%" is more than 100%'),
        (Percentage(below=True), "100%", '"100%" is not less than 100%'),
        (BitRate(), 10, '10 has no unit, as in "10mbit"'),
        (BitRate(), 10_000_000, '10000000 has no unit, as in "10000000bit"'),
        (Size(1 << 20), "64", '"64" has no unit, as in "64mb"'),
        (LIMIT, 64_000, '64000 has no unit, as in "64000b", or "64000p" for packets'),
        (
            BitRate(),
            "10mb",
            '"10mb" is not a rate, as in "10mbit": the units are bit, kbit, mbit and gbit, '
            "or bps, kbps, mbps and gbps for bytes",
        ),
        (BitRate(), "999bit", '"999bit" is less than 1kbit, the least allowed'),
        (BitRate(), "2tbit", '"2tbit" is more than 1000gbit, the most allowed'),
        (LIMIT, "64", '"64" has no unit, as in "64kb", or "64p" for packets'),
        (Size(), "64", '"64" has no unit, as in "64kb"'),
        (
            LIMIT,
            "x",
            '"x" is not a size, as in "64kb" or "100p": the units are b, kb, mb and gb, p is packets',
        ),
        (Size(), "1p", '"1p" is not a size, as in "64mb": the units are b, kb, mb and gb'),
        (LIMIT, "1.5p", '"1.5p" is not a whole number of packets up to 1000'),
        (LIMIT, "1001p", '"1001p" is not a whole number of packets up to 1000'),
        (Size(1 << 20), "1kb", '"1kb" is less than 1mb, the least allowed'),
    ],
)
def test_refusals(reader: Callable[[object], str], value: object, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        reader(value)
    assert str(caught.value) == message


@given(st.integers(0, 10**18))
def test_numbers_survive_their_canonical_text(number: int) -> None:
    assert units.nanoseconds(units.duration(number)) == number
    assert units.bits_per_second(units.rate(number)) == number
    assert units.octets(units.size(number)) == number


def test_numbers_of_canonical_texts() -> None:
    assert units.probability("0.1%") == 0.001
    assert units.percentage(0.001) == "0.1%"
    assert units.percentage(2 / 3) == "66.6667%"
    assert units.packets("100p") == 100
    assert units.packets("64kb") is None


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (0, "0b"),
        (1000, "1000b"),
        (1023, "1023b"),
        (2_000, "1.95kb"),
        (125_000_000, "119mb"),
        (1 << 31, "2gb"),
    ],
)
def test_a_size_for_people_has_three_digits(octets: int, text: str) -> None:
    assert units.about(octets) == text
