"""A hypothesis strategy for configurations."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from epaird.config.reading import InvalidConfiguration, parse
from epaird.config.settings import Configuration


def _peers(number: int) -> list[Any]:
    """Return addresses of both families with and without peers."""
    return [
        f"10.0.{number}.1/24",
        {"address": "10.9.0.2/32", "peer": f"10.0.{number}.2"},
        {"address": f"fd0{number}::1/64", "peer": "fd09::2", "nodad": True},
    ]


def _routes(number: int) -> st.SearchStrategy[dict[str, Any]]:
    """Return routes, of which few have a next hop that the half reaches."""
    return st.fixed_dictionaries(
        {"to": st.sampled_from(["default", "::/0", "10.1.0.0/16", f"10.0.{number}.2"])},
        optional={
            "via": st.sampled_from([f"10.0.{number}.2", f"fd0{number}::2", "fd09::2"]),
            "metric": st.integers(0, 2**32 - 1),
        },
    )


def _half(draw: st.DrawFn, others: list[str], number: int) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, values in {
        "netns": st.sampled_from(["red", "/run/netns/red", "blue"]),
        "name": st.sampled_from(["eth0", "eth1"]),
        "mac": st.sampled_from(["stable", "02:00:00:00:00:01", "02:00:00:00:00:02"]),
        "mtu": st.integers(1280, 9000),
        "up": st.booleans(),
        "txqueuelen": st.integers(1, 524_288),
        "sndbuf": st.integers(4096, 2**31 - 1),
        "addresses": st.sampled_from([[], [f"10.0.{number}.1/24"], ["10.9.0.1/24"], _peers(number)]),
        "routes": st.lists(_routes(number), max_size=4),
        "peer": st.sampled_from([*others, ""]),
        "impair": st.sampled_from([{"delay": "1ms"}, {"loss": "1%"}, {"loss": {"p": "1%"}}, {"preset": "x"}]),
    }.items():
        if draw(st.integers(0, 3)) == 0:
            table[key] = draw(values)
    return table


def _pair(draw: st.DrawFn, others: list[str], number: int) -> dict[str, Any]:
    table: dict[str, Any] = {"a": _half(draw, others, number), "b": _half(draw, others, number + 4)}
    if draw(st.integers(0, 3)) == 0:
        table |= {"queues": 2, "carrier": "off", "schedule": [{"at": "1s", "carrier": "off"}]}
    if draw(st.integers(0, 3)) == 0:
        table |= {"impair": {"rate": "1mbit", "schedule": [{"loss": "100%", "for": "1s"}]}}
    return table | {key: False for key in ("offload", "coalesce", "pmtu") if draw(st.integers(0, 5)) == 0}


@st.composite
def configurations(draw: st.DrawFn) -> Configuration:
    """Return consistent configurations of a handful of pairs and loopbacks."""
    numbers = draw(st.sets(st.integers(0, 3)))
    others = [f"epair{number}{side}" for number in numbers for side in "ab"]
    document: dict[str, Any] = {
        "epair": {},
        "impairment": {"x": draw(st.sampled_from([{}, {"delay": "2ms"}, {"rate": "2mbit", "limit": "9p"}]))},
        "namespaces": {"create": sorted(draw(st.sets(st.sampled_from("rg"))))},
    }
    for number in sorted(numbers):
        document["epair"][f"epair{number}"] = _pair(draw, others, number)
        try:
            parse(document)
        except InvalidConfiguration:
            document["epair"][f"epair{number}"] = {}
            try:
                parse(document)
            except InvalidConfiguration:
                del document["epair"][f"epair{number}"]
    if draw(st.booleans()):
        document["lo"] = draw(
            st.sampled_from(
                [
                    {},
                    {"lo1": {}},
                    {"lo1": {"mode": "verbatim"}, "lo0": {"mtu": 99, "addresses": _peers(9)[:2]}},
                ]
            )
        )
    document["daemon"] = draw(st.sampled_from([{}, {"workers": 3}, {"log_level": "debug", "watch": True}]))
    try:
        return parse(document)
    except InvalidConfiguration:  # a pair that is the peer of another was left out
        for table in document["epair"].values():
            for side in table.values():
                if isinstance(side, dict):
                    side.pop("peer", None)
        return parse(document)
