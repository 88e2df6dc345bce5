"""The kernel accepts the addresses and routes of any configuration that is accepted."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from epaird.config.reading import InvalidConfiguration, parse
from epaird.control.interfaces.ifnet import link_settings
from epaird.kernel import link, tun
from epaird.kernel.convergence import Target, converge
from epaird.kernel.difference import missing
from epaird.kernel.netlink import RouteSocket
from epaird.kernel.state import present
from tests.kernel.named import at
from tests.scenarios.lab import Lab

pytestmark = pytest.mark.real

IPV4: Final = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.1.1", "10.0.1.2", "10.9.0.1"]
IPV6: Final = ["fd00::1", "fd00::2", "fd00::3", "fd01::1", "fd01::2", "fe80::1", "fe80::2"]
LENGTHS: Final = {4: [8, 24, 30, 31, 32], 6: [16, 64, 127, 128]}
DESTINATIONS: Final = [
    *("default", "0.0.0.0/0", "10.0.0.0/24", "10.0.0.2", "10.9.0.0/16", "10.0.0.0/8", "127.0.0.0/8"),
    *("224.0.0.0/4", "255.255.255.255", "::/0", "fd00::/64", "fd00::2", "fd01::2/128", "fd09::/32"),
    *("fe80::/64", "ff00::/8"),
]


def _address(version: int) -> st.SearchStrategy[dict[str, Any]]:
    hosts = st.sampled_from(IPV4 if version == 4 else IPV6)
    lengths = st.sampled_from(LENGTHS[version])
    return st.fixed_dictionaries(
        {"address": st.builds("{}/{}".format, hosts, lengths)},
        optional={"peer": hosts, "nodad": st.booleans()},
    )


ADDRESSES: Final = _address(4) | _address(6)
ROUTES: Final = st.fixed_dictionaries(
    {"to": st.sampled_from(DESTINATIONS)},
    optional={
        "via": st.sampled_from([*IPV4, *IPV6]),
        "metric": st.sampled_from([0, 1, 256, 1024, 2**32 - 1]),
    },
)
PROPOSALS: Final = st.lists(
    st.tuples(st.sampled_from("ab"), st.just("addresses"), ADDRESSES)
    | st.tuples(st.sampled_from("ab"), st.just("routes"), ROUTES)
    | st.tuples(st.sampled_from("ab"), st.just("up"), st.booleans())
    | st.tuples(st.sampled_from("ab"), st.just("mtu"), st.sampled_from([1000, 1280])),
    max_size=16,
)


def accepted(proposals: Sequence[tuple[str, str, Any]]) -> dict[str, Any]:
    """Return the tables of a pair's halves in one namespace, with each proposal that is accepted."""
    halves: dict[str, Any] = {side: {"netns": "red", "name": f"eth-{side}"} for side in "ab"}
    for side, key, value in proposals:
        wanted = copy.deepcopy(halves)
        if key in ("addresses", "routes"):
            wanted[side].setdefault(key, []).append(value)
        else:
            wanted[side][key] = value
        with contextlib.suppress(InvalidConfiguration):
            parse({"epair": {"epair0": wanted}})
            halves = wanted
    return halves


def settings_of(halves: dict[str, Any]) -> tuple[link.LinkSettings, link.LinkSettings]:
    """Return what the devices of a pair are to have."""
    pair = parse({"epair": {"epair0": halves}}).epair["epair0"]
    return link_settings(pair.a), link_settings(pair.b)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=PROPOSALS, second=PROPOSALS, order=st.permutations((0, 1)))
def test_the_kernel_accepts_what_check_accepts(
    lab: Lab,
    first: list[tuple[str, str, Any]],
    second: list[tuple[str, str, Any]],
    order: Sequence[int],
) -> None:
    """Configure two devices as a daemon does when it starts, then change both as a reload does."""
    if not lab["red"].exists:
        lab.namespace("red")
    netns = lab["red"].name
    before, after = settings_of(accepted(first)), settings_of(accepted(second))
    with contextlib.ExitStack() as stack:
        with lab["red"].inside():
            taps = [tun.open_tap(f"eth-{side}") for side in "ab"]
        for tap in taps:
            stack.callback(tap.close)
        for number in order:
            at(netns, link.configure, taps[number].index, before[number])
        for tap, old, new in zip(taps, before, after, strict=True):
            at(netns, link.set_mtu, tap.index, new.mtu)
            if old.up != new.up:
                at(netns, link.set_up, tap.index, new.up)
        stack.enter_context(lab["red"].inside())
        route = stack.enter_context(contextlib.closing(RouteSocket()))
        targets = [
            Target(tap.name, tap.index, after[number], before[number]) for number, tap in enumerate(taps)
        ]
        assert converge(route, targets) == [None, None]
        state = present(route)
        assert not any(missing(state[tap.index], new) for tap, new in zip(taps, after, strict=True))
