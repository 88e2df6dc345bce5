"""Interfaces created, changed and destroyed at run time, with BSD's names, rules and errors."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import re
import signal
import time
from functools import partial

import pytest

from epaird.control.operations import Refused
from epaird.kernel.nscookie import cookie
from epaird.names import mac
from tests.loop import descriptors
from tests.scenarios.control_plane import (
    control_plane,
    in_thread,
    on_loop_in_lab,
    pair_settings,
    refused,
    wait_for_events,
)
from tests.scenarios.lab import Lab
from tests.scenarios.transfers import ping
from tests.waiting import eventually

pytestmark = pytest.mark.real

RACING_S = 10.0


@on_loop_in_lab
async def test_create_makes_the_lowest_free_unit_or_the_requested_one(lab: Lab) -> None:
    async with control_plane(lab) as control:
        create = control.interfaces.create
        assert await create("epair", {}) == "epair0"
        assert await create("epair7", {}) == "epair7"
        assert await create("epair", {}) == "epair1"
        assert await create("lo", {}) == "lo1"
        assert await create("lo7", {}) == "lo7"
        await control.interfaces.destroy("epair0")
        assert await create("epair", {}) == "epair0"
        assert control.interfaces.cloners() == ("epair", "lo")
        assert sorted(lab.home.links("tun")) == [
            "epair0a", "epair0b", "epair1a", "epair1b", "epair7a", "epair7b", "lo0", "lo1", "lo7",
        ]  # fmt: skip


@on_loop_in_lab
async def test_refusals(lab: Lab) -> None:
    async with control_plane(lab) as control:
        interfaces = control.interfaces
        await interfaces.create("epair0", {})
        before = control.inventory()
        for name, code in (
            ("epair7a", "EINVAL"), ("epair07", "EINVAL"), ("veth0", "EINVAL"), ("", "EINVAL"),
            ("epair0", "EEXIST"), ("lo0", "EEXIST"), ("epair1234567890", "ENOSPC"),
            ("epair32768", "EINVAL"), ("lo32768", "EINVAL"),
        ):  # fmt: skip
            assert (await refused(interfaces.create(name, {})))[0] == code, name
        for name in ("epair9", "epair9a", "epair0c", "eth0", "", "a\0b", "\udcff", "x" * 300):
            assert (await refused(interfaces.destroy(name)))[0] == "ENXIO", name
        lab.home.ip("link add veth0 type veth peer name epair9a")
        for name in ("lo", "veth0", "epair9a"):
            assert await refused(interfaces.destroy(name)) == (
                "EINVAL", f'"{name}" was not created by epaird, which destroys only what it created',
            )  # fmt: skip
        lab.home.ip("link del veth0")
        assert (await refused(interfaces.destroy("lo0")))[0] == "EPERM"
        assert await refused(interfaces.create("lo1", {"mtu": 65536})) == (
            "EINVAL", "lo.lo1.mtu: 65536 is more than a TUN's 65535",
        )  # fmt: skip
        code, text = await refused(interfaces.create("epair1", {"a": {"mtu": 70000, "colour": 1}}))
        assert code == "EINVAL"
        assert "epair.epair1.a.mtu: 70000 is more than a TAP's 65521" in text
        assert "colour: unknown key" in text
        assert control.inventory() == before


@on_loop_in_lab
async def test_without_loopbacks_there_is_no_cloner_for_them(lab: Lab) -> None:
    async with control_plane(lab, loopbacks=False) as control:
        assert control.interfaces.cloners() == ("epair",)
        assert (await refused(control.interfaces.create("lo1", {})))[0] == "EINVAL"
        assert "lo0" not in lab.home.links()


@on_loop_in_lab
async def test_a_device_that_exists_already_leaves_nothing_behind(lab: Lab) -> None:
    async with control_plane(lab) as control:
        for device in ("epair0a", "epair1b"):
            lab.home.ip(f"link add {device} type bridge")
        for name in ("epair0", "epair1"):
            code, text = await refused(control.interfaces.create(name, {}))
            assert code == "EEXIST"
            assert "a device of this name exists already" in text
        assert sorted(lab.home.links("tun")) == ["lo0"]
        assert await control.interfaces.create("epair", {}) == "epair2"


@on_loop_in_lab
async def test_either_name_destroys_both_also_after_renames_and_moves(lab: Lab) -> None:
    red, blue = lab.namespace("red"), lab.namespace("blue")
    async with control_plane(lab) as control:
        for number, name in enumerate(("epair0", "epair1a", "epair2b")):
            await control.interfaces.create(
                f"epair{number}", pair_settings(lab, ipv6=False) if number != 1 else {}
            )
            if number == 1:
                lab.home.ip("link set epair1a name green")
                lab.home.ip(f"link set epair1b netns {blue} name white")
                await eventually(lambda: control.has("epair1b", netns=blue.name))
            await control.interfaces.destroy(name)
            assert sorted([*red.links("tun"), *blue.links("tun"), *lab.home.links("tun")]) == ["lo0"]
        await control.interfaces.create("epair0", {})
        events = control.interfaces.events()
        lab.home.ip("link set epair0a name green")
        await wait_for_events(events, ("renamed", "epair0a"))
        await control.interfaces.destroy("green")
        assert sorted(lab.home.links("tun")) == ["lo0"]


@on_loop_in_lab
async def test_every_change_is_reported_as_an_event(lab: Lab) -> None:
    red = lab.namespace("red")
    async with control_plane(lab) as control:
        events = control.interfaces.events()
        await control.interfaces.create("epair0", {})
        await wait_for_events(events, ("created", "epair0a"), ("created", "epair0b"))
        lab.home.ip("link set epair0a down")
        await wait_for_events(events, ("down", "epair0a"), ("nocarrier", "epair0b"))
        lab.home.ip("link set epair0a up")
        await wait_for_events(events, ("up", "epair0a"))
        lab.home.ip("link set epair0a down")
        lab.home.ip("link set epair0a name green")
        await wait_for_events(events, ("renamed", "epair0a"))
        lab.home.ip(f"link set green netns {red}")
        seen = await wait_for_events(events, ("moved", "epair0a"))
        assert seen[-1].detail == f"the daemon's own namespace -> namespace {red}"
        await control.interfaces.destroy("epair0")
        await wait_for_events(
            events, ("unregistering", "epair0a"), ("unregistering", "epair0b"),
            ("destroyed", "epair0a"), ("destroyed", "epair0b"),
        )  # fmt: skip


@on_loop_in_lab
async def test_hardware_addresses(lab: Lab) -> None:
    async with control_plane(lab) as control:
        create, reading = control.interfaces.create, control.reading
        await create("epair0", {})
        first = reading("epair0a").mac, reading("epair0b").mac
        (index,) = (ifnet.tap.index for ifnet in control.registry.ifnets if ifnet.device == "epair0a")
        with lab.home.inside():
            host_id = mac.mixed(mac.host_id(), cookie())
        assert first == (mac.derive(index, host_id, "a"), mac.derive(index, host_id, "b"))
        await control.interfaces.destroy("epair0")
        await create("epair0", {})
        assert reading("epair0a").mac not in first
        stable = {"a": {"mac": "stable"}, "b": {"mac": "stable"}}
        await create("epair1", stable)
        kept = reading("epair1a").mac, reading("epair1b").mac
        await control.interfaces.destroy("epair1")
        await create("epair1", stable)
        assert (reading("epair1a").mac, reading("epair1b").mac) == kept
        code, text = await refused(create("epair2", {"a": {"mac": kept[0]}}))
        assert (code, text) == ("EEXIST", f"epair2: mac {kept[0]} is another interface's")
        code, _ = await refused(control.interfaces.change("epair0a", {"mac": kept[0]}))
        assert code == "EEXIST"
        await control.interfaces.change("epair0a", {"mac": "02:00:00:00:00:77"})
        assert reading("epair0a").mac == "02:00:00:00:00:77"


@on_loop_in_lab
async def test_flags_media_and_mtu(lab: Lab) -> None:
    async with control_plane(lab) as control:
        await control.interfaces.create("epair0", {"a": {"mtu": 65521}})
        (link,) = json.loads(lab.home.ip("-j link show epair0a"))
        assert {"BROADCAST", "MULTICAST", "UP", "LOWER_UP"} <= set(link["flags"])
        assert link["mtu"] == 65521
        output = lab.home.run("ethtool", "epair0a")
        assert re.search(r"Speed: 10000Mb/s\s+Duplex: Full", output)
        assert "Link detected: yes" in output


@on_loop_in_lab
async def test_change_in_place(lab: Lab) -> None:
    red, blue = lab.namespace("red"), lab.namespace("blue")
    async with control_plane(lab) as control:
        await control.interfaces.create("epair0", pair_settings(lab, ipv6=False))
        change = control.interfaces.change
        await change("epair0", {"mtu": 9000, "txqueuelen": 77})
        (link,) = json.loads(red.ip("-j link show eth0"))
        assert (link["mtu"], link["txqlen"]) == (9000, 77)
        await in_thread(ping, red, "10.0.0.2", "-s", "8972", "-M", "do")
        await change("epair0b", {"up": False})
        assert not control.reading("epair0b").up
        assert not control.reading("epair0a").carrier
        await change("epair0b", {"up": True, "addresses": ["10.0.0.3/24"]})
        await in_thread(ping, red, "10.0.0.3")
        assert "10.0.0.2" not in blue.ip("addr show eth0")
        for keys in ({"coalesce": False}, {"offload": False}, {"pmtu": False}, {"offload": True}):
            await change("epair0", keys)
            await in_thread(ping, red, "10.0.0.3")
        await change("epair0a", {"name": "eth9"})
        assert "eth9" in red.links()
        for settings in ({"queues": 2}, {"a": {"netns": None}}):
            assert (await refused(change("epair0", settings)))[0] == "EINVAL"
        assert (await refused(change("epair0a", {"mtu": 3})))[0] == "EINVAL"
        assert (await refused(change("epair0a", {"carrier": "off"})))[0] == "EINVAL"
        assert (await refused(change("epair1", {})))[0] == "ENXIO"


@on_loop_in_lab
async def test_a_change_that_fails_is_undone(lab: Lab) -> None:
    red = lab.namespace("red")
    lab.namespace("blue")
    async with control_plane(lab) as control:
        await control.interfaces.create("epair0", pair_settings(lab, ipv6=False))
        red.ip("link add eth5 type bridge")
        code, _ = await refused(
            control.interfaces.change("epair0", {"b": {"mtu": 9000}, "a": {"mtu": 8000, "name": "eth5"}})
        )
        assert code == "EEXIST"
        assert (control.reading("epair0a").mtu, control.reading("epair0b").mtu) == (1500, 1500)


@on_loop_in_lab
async def test_carrier_follows_the_peer_or_is_always_there_or_off(lab: Lab) -> None:
    async with control_plane(lab) as control:
        await control.interfaces.create("epair0", {"a": {"up": False}})
        await control.interfaces.create("epair1", {"a": {"up": False}, "carrier": "always"})
        assert [control.reading(each).carrier for each in ("epair0b", "epair1b")] == [False, True]
        lab.home.ip("link set epair0a up")
        await eventually(lambda: control.reading("epair0a").carrier and control.reading("epair0b").carrier)
        lab.home.ip("link set epair0b down")
        await eventually(lambda: not control.reading("epair0a").carrier)
        lab.home.ip("link set epair0b up")
        await eventually(lambda: control.reading("epair0a").carrier and control.reading("epair0b").carrier)
        lab.home.ip("link set epair1a up")
        await eventually(lambda: control.reading("epair1a").carrier)

        def carries(pair: str) -> bool:
            return all(control.reading(pair + half).carrier for half in "ab")

        for pair, rule in (("epair0", "peer"), ("epair1", "always")):
            await control.interfaces.change(pair, {"carrier": "off"})
            assert [control.reading(pair + half).carrier for half in "ab"] == [False, False]
            assert "NO-CARRIER" in lab.home.ip(f"link show {pair}a")
            await control.interfaces.change(pair, {"carrier": "on"})
            await eventually(partial(carries, pair))
            (found,) = (each for each in control.registry.pairs if each.name == pair)
            assert found.settings.carrier == rule


@on_loop_in_lab
async def test_create_and_destroy_racing_from_four_clients(lab: Lab) -> None:
    red = lab.namespace("red")
    async with control_plane(lab, workers=2) as control:
        before = len(descriptors())
        ending = time.monotonic() + RACING_S
        done = {"create": 0, "destroy": 0}

        async def client(number: int) -> None:
            random_ = random.Random(number)
            while time.monotonic() < ending:
                name = f"epair{random_.randrange(3)}"
                settings = {"a": {"netns": red.name}} if random_.random() < 0.3 else {}
                verb = random_.choice(("create", "destroy"))
                try:
                    if verb == "create":
                        await control.interfaces.create(random_.choice((name, "epair")), settings)
                    else:
                        await control.interfaces.destroy(name + random_.choice(("", "a", "b")))
                    done[verb] += 1
                except Refused as refusal:
                    if refusal.errno not in (errno.EEXIST, errno.ENXIO, errno.EBUSY):
                        raise

        async def reader() -> None:
            while time.monotonic() < ending:
                control.interfaces.reading()
                await asyncio.sleep(0.001)

        await asyncio.gather(*(client(number) for number in range(4)), reader())
        assert min(done.values()) > 10
        for pair in tuple(control.registry.pairs):
            await control.interfaces.destroy(pair.name)
        assert control.inventory() == {"devices": ["lo0"], "interfaces": ["lo0"], "attachments": ["lo0"]}
        assert not red.links("tun")
        await eventually(lambda: len(descriptors()) <= before)
        assert await control.interfaces.create("epair", {}) == "epair0"


@on_loop_in_lab
async def test_up_and_address_against_destroy(lab: Lab) -> None:
    async with control_plane(lab) as control:
        ending = time.monotonic() + RACING_S
        random_ = random.Random(7)
        rounds = 0
        while time.monotonic() < ending:
            await control.interfaces.create("epair0", {"a": {"up": False}})
            configuring = asyncio.create_task(
                in_thread(_try, lab, "link set epair0a up", "addr add 10.1.1.1/24 dev epair0a")
            )
            await asyncio.sleep(random_.randrange(11) / 1000)
            control.interfaces.reading()
            await control.interfaces.destroy("epair0")
            await configuring
            rounds += 1
        assert rounds > 10
        assert sorted(lab.home.links("tun")) == ["lo0"]


def _try(lab: Lab, *commands: str) -> None:
    for command in commands:
        try:
            lab.home.ip(command)
        except AssertionError:
            return


@on_loop_in_lab
async def test_if_the_second_half_cannot_be_made_the_first_is_undone(lab: Lab) -> None:
    async with control_plane(lab) as control:
        lab.home.ip("link add epair3b type bridge")
        assert (await refused(control.interfaces.create("epair3", {})))[0] == "EEXIST"
        assert "epair3a" not in lab.home.links()
        assert (await refused(control.interfaces.create("epair4", {"b": {"netns": "nowhere"}})))[
            0
        ] == "ENOENT"
        assert sorted(lab.home.links("tun")) == ["lo0"]


@on_loop_in_lab
async def test_a_second_destroy_is_busy_and_references_are_waited_for(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    lab.namespace("red")
    async with control_plane(lab) as control:
        await control.interfaces.create("epair0", {})
        await control.interfaces.create("lo1", {})
        pid = control.worker_pid()
        os.kill(pid, signal.SIGSTOP)
        destroying = [asyncio.create_task(control.interfaces.destroy(name)) for name in ("epair0a", "lo1")]
        await eventually(lambda: "waiting for lo1 to become free. Usage count = 2" in caplog.messages)
        for name in ("epair0", "epair0a", "epair0b", "lo1"):
            assert (await refused(control.interfaces.destroy(name)))[0] == "EBUSY"
        assert (await refused(control.interfaces.create("epair0", {})))[0] == "EEXIST"
        # The devices are already withdrawn.
        assert sorted(lab.home.links("tun")) == ["lo0"]
        os.kill(pid, signal.SIGCONT)
        await asyncio.gather(*destroying)
        assert control.inventory()["interfaces"] == ["lo0"]
