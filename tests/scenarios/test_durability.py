"""What was answered outlives the control plane; a state that cannot be written ends nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from epaird.client.client import Client
from tests.scenarios.ctl import control_socket, epairctl
from tests.scenarios.faults import Cable, fill_up, small_disk
from tests.scenarios.lab import CABLE, Lab
from tests.waiting import until

pytestmark = pytest.mark.real


def fill(client: Client) -> None:
    """Create pairs until the state takes so long to write that it is written seldom."""
    for unit in range(1, 4):
        client.create(f"epair{unit}", {})


def test_each_change_is_known_to_the_successor_of_a_daemon_that_is_killed_at_its_answer(lab: Lab) -> None:
    daemon = lab.daemon(CABLE, workers=1)
    client = Client(str(control_socket(lab)))
    fill(client)

    def create() -> None:
        client.create("epair7", {"a": {"mtu": 1400}})

    def change() -> None:
        client.change("epair7a", {"mtu": 1300})

    def patch() -> None:
        client.patch("epair7b", "epair1a", force=True)

    def unpatch() -> None:
        client.unpatch("epair7b")

    def destroy() -> None:
        client.destroy("epair7")

    def has_mtu(mtu: int) -> Callable[[], bool]:
        return lambda: client.interface("epair7a")[0].mtu == mtu

    steps: tuple[tuple[Callable[[], None], Callable[[], bool]], ...] = (
        (create, has_mtu(1400)),
        (change, has_mtu(1300)),
        (patch, lambda: client.interface("epair7b")[0].peer == "epair1a"),
        (unpatch, lambda: client.interface("epair7b")[0].peer == ""),
        (destroy, lambda: not [each for each in client.interfaces() if each.pair == "epair7"]),
        (
            lambda: client.destroy("epair0"),
            lambda: not client.interfaces(kind="epair", netns=lab["red"].name),
        ),
    )
    for step, holds in steps:
        step()
        daemon.crash()
        daemon = lab.restart(daemon).wait_ready()
        assert not daemon.log_lines_with("its device is gone")
        assert holds()
    daemon.stop()


def test_a_new_pair_forwards_through_a_kill_at_its_answer(lab: Lab) -> None:
    """The device itself is taken over: it is not created a second time."""
    daemon = lab.daemon("", workers=1)
    client = Client(str(control_socket(lab)))
    for unit in range(5):
        client.create(f"epair{unit}", {})
        before = lab.home.links("tun")[f"epair{unit}a"]
        daemon.crash()
        daemon = lab.restart(daemon).wait_ready()
        after = lab.home.links("tun")[f"epair{unit}a"]
        assert (after.index, after.mac) == (before.index, before.mac)
    assert len(client.interfaces(kind="epair")) == 10
    for each in range(5):
        client.destroy(f"epair{each}")
    daemon.stop()


def test_an_upgrade_with_a_full_disk_loses_nothing(lab: Lab) -> None:
    with small_disk(lab.directory / "run", 64 << 10) as disk:
        cable = Cable(lab)
        before = cable.page()
        with cable.stream() as stream:
            filler = fill_up(disk)
            for unit in range(1, 10):
                cable.ctl("create", f"epair{unit}")
            cable.daemon.wait_for_log("a successor would not know of the last changes")
            status, body = cable.daemon.get("/healthz")
            assert status == 200
            assert b"the state cannot be written: No space left on device" in body
            assert cable.daemon.metrics().value("epaird_state_write_errors_total") > 0
            epairctl(lab, "upgrade")
            cable.daemon.wait_for_log("upgraded to epaird")
            cable.wait_for_frames()
            row = cable.record("upgrade with a full disk", 20_000, before, stream)
        assert row.outcome.lost == 0
        assert len(cable.daemon.metrics().pairs()) == 10
        filler.unlink()
        cable.daemon.wait_for_log("can be written again")
        until(lambda: b"cannot be written" not in cable.daemon.get("/healthz")[1], cable.daemon.__repr__)
        cable.daemon.stop()


def test_a_full_disk_ends_neither_a_start_nor_an_upgrade_with_namespaces_of_the_daemon(lab: Lab) -> None:
    with small_disk(lab.directory / "run", 64 << 10) as disk:
        daemon = lab.daemon(CABLE)
        inode = Path(f"/run/netns/{lab['red']}").stat().st_ino
        filler = fill_up(disk)
        epairctl(lab, "upgrade")
        daemon.wait_for_log("upgraded to epaird")
        daemon.crash()
        daemon = lab.restart(daemon).wait_ready()
        assert Path(f"/run/netns/{lab['red']}").stat().st_ino == inode
        assert daemon.get("/healthz")[0] == 200
        filler.unlink()
        daemon.stop()
        assert not lab["red"].exists
