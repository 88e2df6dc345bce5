"""``epairctl impair``, by the real epairctl."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from epaird.client.impairment import DirectionImpairment, PairImpairment
from epaird.control.operations import Refused
from epaird.impairment import netem
from tests.ctl.epairctl import Cli


def impaired(cli: Cli, keys: dict[str, object], *, preset: str = "", expires_in: float | None = None) -> None:
    """Let both directions of epair0 have these keys."""
    seed = None if not keys else 7
    directions = [
        DirectionImpairment(device, peer, keys, preset, seed)
        for device, peer in (("epair0a", "epair0b"), ("epair0b", "epair0a"))
    ]
    added = "adds 200ms to a round trip" if "delay" in keys else ""
    cli.operations.impairments["epair0"] = PairImpairment("epair0", directions, added, expires_in)


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (["delay", "100ms", "loss_burst", "3"], {"delay": "100ms", "loss_burst": "3"}),
        (["delay=100ms", "loss=none"], {"delay": "100ms", "loss": None}),
        (["delay", "100ms", "10ms", "distribution", "normal"],
         {"delay": "100ms", "jitter": "10ms", "distribution": "normal"}),
        (["rate", "10mbit", "limit", "1000"], {"rate": "10mbit", "limit": "1000p"}),
        (["seed", "7"], {"seed": 7}),
    ],
)  # fmt: skip
def test_words_become_keys_of_which_others_stay(pair: Cli, words: list[str], keys: dict[str, object]) -> None:
    pair.output("impair", "epair0", *words)
    assert pair.operations.requested[-1] == ("impair", "epair0", keys, False, None)


@pytest.mark.parametrize(
    "words", [["for", "30s", "loss", "100%"], ["loss", "100%", "for", "30s"], ["for=30s", "loss=100%"]]
)
def test_for_a_time_only(pair: Cli, words: list[str]) -> None:
    pair.output("impair", "epair0a", *words)
    assert pair.operations.requested[-1] == ("impair", "epair0a", {"loss": "100%"}, False, 30.0)


def test_off_removes_all_keys(pair: Cli) -> None:
    impaired(pair, {})
    assert pair.output("impair", "epair0", "off") == "epair0, each direction: not impaired\n"
    pair.output("impair", "epair0", "for", "5s", "off")
    assert pair.operations.requested[-2:] == [
        ("impair", "epair0", {}, True, None), ("impair", "epair0", {}, True, 5.0),
    ]  # fmt: skip


def test_the_answer_has_the_round_trip_and_the_end(pair: Cli) -> None:
    impaired(pair, {"delay": "100ms"}, expires_in=29.7)
    assert pair.output("impair", "epair0", "for", "30s", "delay", "100ms").splitlines() == [
        "epair0, each direction: delay 100ms, seed 7", "adds 200ms to a round trip", "expires in 30s",
    ]  # fmt: skip
    found = json.loads(pair.output("-j", "impair", "epair0", "delay", "100ms"))
    assert found["round_trip"] == "adds 200ms to a round trip"
    assert found == json.loads(pair.output("impair", "epair0", "-j"))


def test_what_differs_from_netem_is_said_once(pair: Cli) -> None:
    impaired(pair, {})
    first = pair.output("impair", "epair0", "loss", "1%", "delay", "9ms", "1ms", "corrupt", "1%")
    for difference in (netem.PER_SEGMENT, netem.IN_ORDER, netem.CORRUPTED):
        assert first.count(f"note: {difference}\n") == 1
    impaired(pair, {"loss": "1%"})
    assert "note:" not in pair.output("impair", "epair0", "loss", "2%")
    assert netem.PER_SEGMENT not in pair.output("impair", "epair0", "duplicate", "2%")
    assert netem.MICROSECONDS in pair.output("impair", "epair0", "delay", "100")


def test_what_was_typed_is_explained_each_time(pair: Cli) -> None:
    impaired(pair, {"delay": "100ms"})
    assert netem.MICROSECONDS in pair.output("impair", "epair0", "delay", "100")
    impaired(pair, {})
    assert netem.NO_QUEUE in pair.output("impair", "epair0", "limit", "1000")


def test_a_surprising_combination_is_noted_once(pair: Cli) -> None:
    direction = DirectionImpairment("epair0a", "epair0b", {"rate": "10mbit"}, seed=7)
    impaired(pair, {"delay": "1ms"})
    pair.operations.impaired["epair0"] = PairImpairment("epair0", [direction, direction])
    surprise = "note: rate: without limit the queue is as long as buffer and the kernel's ring"
    assert pair.output("impair", "epair0", "rate=10mbit").count(surprise) == 1
    assert "without limit" not in pair.output("impair", "epair0", "delay=2ms")


def test_remarks_about_a_set(pair: Cli) -> None:
    impaired(pair, {"delay": "150ms", "rate": "1mbit"}, preset="3g-down")
    text = pair.output("impair", "epair0", "rate", "none")
    assert "note: epair0a: rate 1mbit is that of the set 3g-down: give a value of 0, or remove" in text
    impaired(pair, {"delay": "150ms"})
    assert "take precedence over those of the set" in pair.output("impair", "epair0", "preset", "3g-down")


def test_decisions_are_printed_and_repeated(pair: Cli, tmp_path: Path) -> None:
    text = pair.output("impair", "epair0a", "log")
    assert text == "0 loss\n1 loss\n2 loss\n"
    assert pair.output("impair", "epair0a", "log", "1") == "0 loss\n"
    wanted = ("replay", "epair0a", [(0, 1), (1, 1), (2, 1)])
    for name, contents in (
        ("log", f"# lost\n{text}"),
        ("json", pair.output("-j", "impair", "epair0a", "log")),
    ):
        (tmp_path / name).write_text(contents)
        assert pair.output("impair", "epair0a", "replay", str(tmp_path / name)) == (
            "epair0a: 3 decisions are repeated, from the next segment on\n"
        )
        assert pair.operations.requested[-1] == wanted


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["dealy", "1ms"], '"dealy" is not a key, did you mean delay?'),
        (["delay"], "delay needs a value after it"),
        (["remove"], '"remove" is not a key, did you mean off?'),
        (["off", "delay", "1ms"], 'off removes all keys, nothing may follow it: "delay"'),
        (["for", "loss", "1%"], "for needs a time after it, as in: for 30s"),
        (["for", "30s"], "for 30s needs keys, or off: for 30s loss 100%"),
        (["for", "1s", "for", "2s", "off"], "for is given twice"),
        (["log", "x"], "log takes a number of decisions, or nothing: log 20"),
        (["replay"], "replay takes a file of decisions, or - for standard input"),
        (["replay", "/nowhere"], "/nowhere: no such file or directory"),
        (["--colour", "red"], '"--colour" is not a key, the keys are delay, '),
        (["rate", "1mbit", "-14"], "rate: epaird has no overheads or cells, leave -14 out"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(pair: Cli, words: list[str], line: str) -> None:
    before = [*pair.operations.requested]
    assert pair.fails("impair", "epair0a", *words, status=2).startswith(line)
    assert pair.operations.requested == before


@pytest.mark.parametrize("contents", ["1\n", "loss 1\n", "1 lost\n", "[{]", "\xff"])
def test_a_file_without_decisions_is_refused(pair: Cli, tmp_path: Path, contents: str) -> None:
    (tmp_path / "file").write_bytes(contents.encode("latin-1"))
    line = pair.fails("impair", "epair0a", "replay", str(tmp_path / "file"), status=2)
    assert line.startswith(f"{tmp_path}/file: ")


def test_a_key_of_a_half_is_refused_with_the_halfs_name(pair: Cli) -> None:
    impaired(pair, {})
    line = pair.fails("impair", "epair0", "b.delay=10ms", status=2)
    assert line == '"b.delay=10ms" is not a key: name the half, epairctl impair epair0b ...'


def test_a_refusal_names_the_key_without_its_table(pair: Cli) -> None:
    pair.operations.fails = Refused(22, 'epair.epair0.a.impair.delay: "100" has no unit')
    assert pair.fails("impair", "epair0a", "delay=100") == 'delay: "100" has no unit (EINVAL)'
    pair.operations.fails = None
    assert pair.fails("impair", "nix", "off") == 'there is no interface "nix" (ENXIO)'
    assert pair.fails("impair", "epair0", "for", "1x", "off").startswith('for: "1x" is not a duration')
