"""Interfaces of which the name of the namespace leads elsewhere, on a machine without a kernel."""

from __future__ import annotations

import errno

import pytest

from epaird.control.interfaces.events import EventBus
from epaird.control.interfaces.ifnet import Ifnet, Stray
from epaird.control.interfaces.saved import SavedDevice
from epaird.kernel.errors import KernelError
from epaird.kernel.namespace import nameless
from tests.control.interfaces.scene import Scene, make_scene
from tests.loop import on_loop

HALF = {"netns": "red", "name": "eth0", "addresses": ["10.0.0.1/24"]}


async def placed(scene: Scene) -> Ifnet:
    """Create a pair with a half in red, and return the half."""
    scene.host.add_namespace("red")
    await scene.interfaces.create("epair0", {"a": HALF})
    half = scene.registry.pairs.half("epair0a")
    assert half is not None
    return half


@on_loop
async def test_a_name_that_leads_elsewhere_is_reported_once() -> None:
    async with make_scene() as scene:
        half = await placed(scene)
        here = nameless(half.place.identity)
        reader = scene.interfaces.events()
        assert scene.registry.check_names() == ()
        leads_to = nameless(scene.host.add_namespace("red"))
        for _ in range(3):
            assert scene.registry.check_names() == (half,)
        reading = scene.one("epair0a")
        assert (reading.netns, reading.strayed, reading.leads_to) == (here, "red", leads_to)
        event = await anext(reader)
        assert (event.what, event.detail) == ("strayed", f"red leads to {leads_to} now")
        del scene.host.namespaces["red"]
        assert scene.registry.check_names() == ()
        assert half.stray == Stray("red", here, "")
        assert (await anext(reader)).detail == "red does not exist any more"
        scene.host.namespaces["red"] = half.place.identity
        assert scene.registry.check_names() == ()
        assert (await anext(reader)).what == "returned"
        assert scene.one("epair0a").netns == "red"


@on_loop
async def test_a_stray_is_moved_and_configured_again() -> None:
    async with make_scene() as scene:
        half = await placed(scene)
        before = half.place
        identity = scene.host.add_namespace("red")
        reader = scene.interfaces.events()
        await scene.registry.follow_names()
        events = [(await anext(reader)).what for _ in range(3)]
        assert events == ["strayed", "moved", "returned"]
        link = scene.host.links["epair0a"]
        assert link.place == half.place != before
        assert (half.place.identity, half.placed, half.stray) == (identity, identity, None)
        assert link.settings is not None
        assert [str(each) for each in link.settings.addresses] == ["10.0.0.1/24"]
        assert (half.place.name, half.up) == ("eth0", True)
        assert link.carrier
        assert scene.one("epair0a").peer == "epair0b"
        assert scene.host.links["epair0b"].carrier
        await scene.registry.relocate(half)
        assert scene.host.steps.count("relocate") == 1, "it is no stray any more"


@on_loop
async def test_a_stray_gets_another_address_where_a_device_has_its_own() -> None:
    async with make_scene() as scene:
        half = await placed(scene)
        before = half.lladdr
        assert before is not None
        scene.host.add_namespace("red")
        await scene.registry.follow_names()
        assert half.lladdr == before
        scene.host.foreign_addresses = frozenset({before})
        scene.host.add_namespace("red")
        await scene.registry.follow_names()
        assert half.lladdr != before
        settings = scene.host.links["epair0a"].settings
        assert settings is not None
        assert settings.mac == half.lladdr
        chosen = "02:00:00:00:00:0a"
        await scene.interfaces.change("epair0a", {"mac": chosen})
        scene.host.foreign_addresses = frozenset({chosen})
        scene.host.add_namespace("red")
        await scene.registry.follow_names()
        assert half.lladdr == chosen, "an address of the configuration stays"


@on_loop
async def test_the_return_is_reported_when_the_interface_is_configured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with make_scene() as scene:
        half = await placed(scene)
        scene.host.add_namespace("red")
        configured: list[object] = []

        def publish(_: EventBus, what: str, device: str = "", detail: str = "") -> None:
            if what == "returned":
                configured.append((scene.host.links["epair0a"].settings, half.up, half.carrier))

        before = scene.host.links["epair0a"].settings, True, True
        monkeypatch.setattr(EventBus, "publish", publish)
        await scene.registry.follow_names()
        assert configured == [before]


@on_loop
async def test_a_move_that_fails_is_logged_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async with make_scene() as scene:
        half = await placed(scene)
        before = half.place
        scene.host.add_namespace("red")
        for _ in range(2):
            scene.host.fail("relocate", errno.EEXIST)
            await scene.registry.follow_names()
        assert [line for line in caplog.messages if "stays where it is" in line] == [
            "relocate: File exists: it stays where it is"
        ]
        assert half.place == before
        assert half.stray is not None
        scene.host.fail("relocate", errno.EEXIST)
        with pytest.raises(KernelError, match="relocate"):
            await scene.registry.relocate(half)
        await scene.registry.follow_names()
        assert half.stray is None


@on_loop
async def test_an_interface_that_its_owner_moved_is_no_stray() -> None:
    async with make_scene() as scene:
        half = await placed(scene)
        scene.host.add_namespace("blue")
        left = scene.host.move("epair0a", "blue")
        scene.host.report(left)
        scene.host.add_namespace("red")
        assert scene.registry.check_names() == ()
        assert half.stray is None
        scene.host.namespaces["red"] = half.place.identity
        scene.registry.check_names()
        assert half.placed == half.place.identity, "the name leads to where it is now"
        scene.host.add_namespace("red")
        assert scene.registry.check_names() == (half,)


@on_loop
async def test_a_namespace_that_cannot_be_looked_up_changes_nothing() -> None:
    async with make_scene() as scene:
        half = await placed(scene)
        scene.host.fail("namespace_identity", errno.EMFILE)
        assert scene.registry.check_names() == ()
        assert half.stray is None


@on_loop
async def test_the_placement_survives_in_the_state_file() -> None:
    async with make_scene() as scene:
        half = await placed(scene)
        saved = SavedDevice.of(half)
        assert saved.placed_in("red") == half.placed == half.place.identity
        older = SavedDevice.model_validate(saved.model_dump(exclude={"placed"}))
        assert older.placed_in("red") == half.place.identity
        assert older.placed_in("blue") is None, "others had moved it"
