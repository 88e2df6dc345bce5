"""Commands for interfaces, by the real epairctl, over operations without interfaces."""

from __future__ import annotations

import json

from epaird.client.impairment import DirectionImpairment, PairImpairment
from epaird.control.readings import MissingReading
from tests.ctl.epairctl import Cli


def test_create_prints_the_name_that_ifconfig_prints(cli: Cli) -> None:
    assert cli.output("create", "epair") == "epair0a\n"
    assert cli.output("create", "epair7") == "epair7a\n"
    assert cli.output("create", "lo1") == "lo1\n"
    assert json.loads(cli.output("create", "-j", "epair")) == {
        "name": "epair1", "devices": ["epair1a", "epair1b"],
    }  # fmt: skip
    assert json.loads(cli.output("create", "-j", "lo")) == {"name": "lo0", "devices": ["lo0"]}


def test_create_takes_settings_as_words_and_as_options(cli: Cli) -> None:
    cli.output("create", "epair", "-o", "a.mtu=9000", "-o", "queues=2", "a.netns=red", "b.up=false")
    assert cli.operations.requested == [
        ("create", "epair0", {"a": {"mtu": 9000, "netns": "red"}, "queues": 2, "b": {"up": False}})
    ]


def test_destroy_takes_any_of_the_names(pair: Cli) -> None:
    assert pair.output("destroy", "epair0b", "lo1") == ""
    assert pair.output("list").splitlines()[1:] == []


def test_destroy_continues_after_a_name_that_is_unknown(pair: Cli) -> None:
    assert pair.fails("destroy", "epair0", "nix", "lo1") == 'there is no interface "nix" (ENXIO)'
    assert pair.operations.interfaces == {}


def test_list(pair: Cli) -> None:
    assert pair.output("list").splitlines() == [
        "NAME     STATE  PEER     MTU   MAC                DEVICE   NETNS  WORKER",
        "epair0a  up     epair0b  1500  02:5d:11:22:33:0a  epair0a  -      0",
        "epair0b  up     epair0a  1500  02:5d:11:22:33:0a  epair0b  -      0",
        "lo1      up     -        1500  02:5d:11:22:33:0a  lo1      -      0",
    ]
    assert [line.split()[0] for line in pair.output("list", "lo").splitlines()] == ["NAME", "lo1"]


def test_show(pair: Cli) -> None:
    shown = pair.output("show", "epair0").splitlines()
    assert [line for line in shown if not line.startswith(" ")] == [
        "epair0a: <UP,LOWER_UP> mtu 1500 state up",
        "epair0b: <UP,LOWER_UP> mtu 1500 state up",
    ]
    assert "    in:  0 packets, 0 bytes, 0 multicast" in shown
    half = pair.output("show", "epair0b").splitlines()
    assert half == shown[-len(half) :]


def test_show_has_the_impairment_of_what_a_half_transmits(pair: Cli) -> None:
    both = [DirectionImpairment("epair0a", "epair0b", {"loss": "1%", "delay": "5ms"})]
    pair.operations.impairments["epair0"] = PairImpairment("epair0", both)
    shown = pair.output("show", "epair0").splitlines()
    assert [line for line in shown if "impaired" in line] == ["    impaired: delay 5ms loss 1%"]
    assert shown.index("    impaired: delay 5ms loss 1%") < len(shown) / 2 + 1
    assert "\\    impaired: delay 5ms loss 1%\n" in pair.output("-o", "show", "epair0")


def test_set(pair: Cli) -> None:
    assert pair.output("set", "epair0a", "mtu=9000", "up=false") == ""
    assert pair.operations.requested[-1] == ("change", "epair0a", {"mtu": 9000, "up": False})
    assert pair.output("show", "epair0a").startswith("epair0a: <LOWER_UP> mtu 9000 state down\n")


def test_cloners(cli: Cli) -> None:
    assert cli.output("cloners") == "epair lo\n"
    assert json.loads(cli.output("cloners", "-j")) == ["epair", "lo"]


def test_patch_and_unpatch(pair: Cli) -> None:
    line = pair.fails("patch", "epair0a", "epair0b")
    assert line == "epair0b: is plugged into another, --force takes it from there (EBUSY)"
    assert pair.output("patch", "epair0a", "epair0b", "--force") == ""
    assert pair.output("unpatch", "epair0a") == ""
    assert pair.operations.requested[-2:] == [("patch", "epair0a", "epair0b", True), ("unpatch", "epair0a")]
    assert pair.fails("patch", "lo1", "epair0a") == "lo1: a loopback has no peer (ENODEV)"
    assert pair.fails("patch", "epair0a", "epair0a") == "epair0a: cannot be its own peer (EINVAL)"


WAITS = "namespace red: does not exist"


def lose_a_pair(cli: Cli) -> None:
    """Let a pair and a loopback be missing, besides what exists."""
    cli.operations.absent = (
        MissingReading("lo0", "lo", "", "lo0", "", ""),
        MissingReading("epair10a", "epair", "epair10", "eth0", "red", WAITS),
        MissingReading("epair2b", "epair", "epair2", "eth1", "", WAITS),
    )


def test_list_has_what_is_missing_in_its_place(pair: Cli) -> None:
    lose_a_pair(pair)
    lines = pair.output("list").splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["epair0a", "up"], ["epair0b", "up"], ["epair2b", "missing"], ["epair10a", "missing"],
        ["lo0", "missing"], ["lo1", "up"],
    ]  # fmt: skip
    assert lines[4].split() == ["epair10a", "missing", "-", "-", "-", "eth0", "red", "-"]
    assert pair.output("list", "-br", "-n", "red").split() == ["epair10a", "MISSING", "-", "eth0@red"]
    assert f"epair10a: <> state missing\\    device eth0 netns red reason {WAITS}" in pair.output(
        "list", "-o"
    )
    assert [line.split()[0] for line in pair.output("list", "lo").splitlines()[1:]] == ["lo0", "lo1"]
    assert "missing" not in pair.output("list", "--drops")


def test_list_with_json_has_what_is_missing_on_request(pair: Cli) -> None:
    lose_a_pair(pair)
    assert [each["device"] for each in json.loads(pair.output("list", "-j"))] == ["epair0a", "epair0b", "lo1"]
    found = json.loads(pair.output("list", "-j", "--missing", "epair"))
    assert [each["device"] for each in found] == ["epair2b", "epair10a"]
    assert found[1] == {
        "device": "epair10a", "kind": "epair", "pair": "epair10", "name": "eth0", "netns": "red",
        "reason": WAITS,
    }  # fmt: skip
    assert [line.split()[0] for line in pair.output("list", "--missing").splitlines()[1:]] == [
        "epair2b", "epair10a", "lo0",
    ]  # fmt: skip
    assert pair.fails("list", "--missing", "foo") == "kind: foo is none of epair, lo (EINVAL)"
