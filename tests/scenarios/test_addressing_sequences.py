"""Random sequences of changes by us and by others: addresses, routes and the plan are always right."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from random import Random
from typing import Final

import pytest

from epaird.client.client import Client, DaemonError
from tests.scenarios.addressing import addresses, routes
from tests.scenarios.addressmodel import HalfModel
from tests.scenarios.ctl import control_socket, rewrite
from tests.scenarios.lab import NAMESPACES, Daemon, Lab, pair
from tests.waiting import until

pytestmark = pytest.mark.real

STEPS: Final = int(os.environ.get("EPAIRD_STEPS", "30"))
UNITS: Final = (0, 1)


class Sequence:
    """A daemon with two pairs, what they are to have, and what was done."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self.choose = Random(seed)
        self.lab = lab
        red = lab["red"]
        self.halves = [HalfModel(unit, red) for unit in UNITS]
        for half in self.halves:
            half.addresses = half.pool[:3] + half.pool[-1:]
        self.daemon: Daemon = lab.daemon(self.text())
        self.client = Client(str(control_socket(lab)))
        self.done: list[str] = []
        lab.home.ip("link add epair7a type veth peer name x7")

    def text(self, more: str = "") -> str:
        """Return the file."""
        tables = [
            pair(
                half.unit,
                a=half.table(),
                b={"addresses": [f"10.{half.unit}.0.2/24", f"fd0{half.unit}::2/64"]},
            )
            for half in self.halves
        ]
        return NAMESPACES + "".join(tables) + more

    def step(self) -> None:
        """Do something, and check everything."""
        action = self.choose.choice(self.actions)
        half = self.choose.choice(self.halves)
        self.done.append(f"{action.__name__} {half.device}")
        action(self, half)
        until(
            lambda: not self.wrong(), lambda: "\n".join([*self.done, *self.wrong(), half.red.ip("address")])
        )

    def wrong(self) -> list[str]:
        """Return what is not as it is to be."""
        report = self.client.plan(self.daemon.file.read_text(), "plan.toml")
        restored: dict[str, list[str]] = {half.device: [] for half in self.halves}
        for action in report.actions:
            if action.verb == "restore":
                restored.setdefault(action.name, []).extend(detail.new for detail in action.details)
        found = [line for half in self.halves for line in half.wrong(restored[half.device])]
        return found + [f"{name}: {lines}" for name, lines in restored.items() if name[-1] == "b" and lines]

    # By us.

    def edit_and_reload(self, half: HalfModel) -> None:
        """Reload a file with other addresses and routes, the default routes perhaps at another half."""
        for each in self.halves:
            if each is half or self.choose.random() < 0.5 or any("default" in r for r in each.routes):
                each.edit(self.choose, default=each is half)
        rewrite(self.daemon, self.text())
        self.client.reload()
        for each in self.halves:
            each.reloaded()

    def reload(self, _half: HalfModel) -> None:
        """Reload the same file."""
        self.client.reload()
        for each in self.halves:
            each.reloaded()

    def fail_to_reload(self, half: HalfModel) -> None:
        """Reload a file that cannot be applied: everything is as it was before."""
        kept = [(each.addresses, each.routes, each.file_up) for each in self.halves]
        before = self.daemon.file.read_text()
        half.edit(
            self.choose, default=not any("default" in route for each in self.halves for route in each.routes)
        )
        rewrite(self.daemon, self.text("[epair.epair7]\n"))
        with pytest.raises(DaemonError, match=r"epair7a.*everything is as it was before \(EEXIST\)$"):
            self.client.reload()
        self.daemon.file.write_text(before)
        for each, (addresses_, routes_, up) in zip(self.halves, kept, strict=True):
            each.addresses, each.routes, each.file_up = addresses_, routes_, up
            there = set(addresses(each.red, each.name)) | set(routes(each.red, each.name))
            each.removed -= there  # a change that is undone puts them back

    def set_mtu(self, half: HalfModel) -> None:
        self.client.change(half.device, {"mtu": self.choose.choice((1400, 1500))})
        half.removed.clear()

    def set_up(self, half: HalfModel) -> None:
        half.up = half.recorded_up = self.choose.random() < 0.6
        self.client.change(half.device, {"up": half.up})
        half.removed.clear()

    def set_name(self, half: HalfModel) -> None:
        half.name = half.recorded_name = self.choose.choice((f"lan{half.unit}", half.file_name))
        self.client.change(half.device, {"name": half.name})
        half.removed.clear()

    def patch(self, half: HalfModel) -> None:
        if self.choose.random() < 0.5:
            self.client.unpatch(half.device)
        else:
            self.client.patch(half.device, f"epair{self.choose.choice(UNITS)}b", force=True)

    # By others.

    def flap(self, half: HalfModel) -> None:
        if half.up:
            for state in ("down", "up") * self.choose.choice((1, 1, 3)):
                half.red.ip(f"link set {half.name} {state}")
            half.came_up()

    def down_or_up(self, half: HalfModel) -> None:
        half.red.ip(f"link set {half.name} {'down' if half.up else 'up'}")
        half.up = not half.up
        if half.up:
            half.came_up()
        until(lambda: self.client.interface(half.device)[0].up == half.up)

    def rename(self, half: HalfModel) -> None:
        name = f"wan{half.unit}" if half.name != f"wan{half.unit}" else half.file_name
        half.red.ip(f"link set {half.name} name {name}")
        half.name = name
        until(lambda: self.client.interface(half.device)[0].name == name)

    def remove_address(self, half: HalfModel) -> None:
        here = [each for each in addresses(half.red, half.name) if each in half.addresses]
        if here:
            half.red.ip(f"address del {self.choose.choice(here)} dev {half.name}")
            half.observe()

    def remove_route(self, half: HalfModel) -> None:
        if here := routes(half.red, half.name):
            half.red.ip(f"{'-6 ' * (':' in here[0])}route del {here[0]} dev {half.name}")
            half.removed.add(here[0])

    def add_address(self, half: HalfModel) -> None:
        address = f"10.66.{half.unit}.{self.choose.randint(1, 9)}/24"
        with contextlib.suppress(AssertionError):  # it has it already
            half.red.ip(f"address add {address} dev {half.name}")
        half.foreign.add(address)

    actions: tuple[Callable[[Sequence, HalfModel], None], ...] = (
        edit_and_reload, edit_and_reload, edit_and_reload, reload, fail_to_reload, set_mtu, set_up, set_up,
        set_name, patch, flap, flap, down_or_up, rename, remove_address, remove_address, remove_route,
        add_address,
    )  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_addresses_and_routes_are_always_right(lab: Lab, seed: int) -> None:
    sequence = Sequence(lab, seed)
    assert not sequence.wrong()
    for _ in range(STEPS):
        sequence.step()
    assert not sequence.daemon.log_lines_with("internal error")
    assert not sequence.daemon.log_lines_with("rolling a reload back")
    lab.home.ip("link del epair7a")
