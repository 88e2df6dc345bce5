"""Changes by others: devices are deleted, renamed and resized, namespaces are removed."""

from __future__ import annotations

from dataclasses import dataclass

from tests.soak.expected import MADE, Expected, pair, words
from tests.soak.operations.operation import Operation
from tests.soak.site import Site
from tests.waiting import until


@dataclass(frozen=True, slots=True)
class DeviceDeleted(Operation):
    """A device is deleted, which destroys its interface."""

    name: str
    device: str
    netns: str

    def __str__(self) -> str:
        return f"ip link del {self.device}"

    def act(self, site: Site) -> None:
        netns = site.lab.namespace_of(site.expand(self.netns))
        with site.expect_log(f"{self.device}: the device is gone"):
            netns.ip(f"link del {self.device}")

    def expect(self, expected: Expected) -> None:
        expected.destroy(self.name)


@dataclass(frozen=True, slots=True)
class DeviceFlapped(Operation):
    """A device is set down, renamed and resized, and all of it is undone."""

    device: str
    netns: str
    mtu: int
    up: bool

    def __str__(self) -> str:
        return f"ip link set {self.device} down, name, mtu, and back"

    def act(self, site: Site) -> None:
        netns = site.lab.namespace_of(site.expand(self.netns))
        netns.ip(f"link set {self.device} down")
        netns.ip(f"link set {self.device} name other")
        netns.ip("link set other mtu 2000")
        netns.ip(f"link set other mtu {self.mtu}")
        netns.ip(f"link set other name {self.device}")
        if self.up:
            netns.ip(f"link set {self.device} up")


@dataclass(frozen=True, slots=True)
class NamespaceDeleted(Operation):
    """A foreign namespace is removed, and with it the pair in it."""

    def __str__(self) -> str:
        return "ip netns del, with an end of a pair in it"

    def act(self, site: Site) -> None:
        brief = site.lab.namespace("brief")
        site.ctl("create", "epair60", *words(pair(60, "$green", "$brief")))
        with site.expect_log("epair60 is taken down whole"):
            brief.remove()
        until(lambda: all(each["pair"] != "epair60" for each in site.interfaces()), site.recent)


@dataclass(frozen=True, slots=True)
class MadeNamespaceDeleted(Operation):
    """The namespace that the daemon created is removed, and a reload creates it again."""

    names: tuple[str, ...]
    """The pairs in the namespace."""

    def __str__(self) -> str:
        return "ip netns del of the daemon's own, reload"

    def act(self, site: Site) -> None:
        site.lab[MADE.removeprefix("$")].remove()
        until(lambda: not {each["pair"] for each in site.interfaces()} & {*self.names}, site.recent)
        site.ctl("reload")

    def expect(self, expected: Expected) -> None:
        for name in self.names:
            expected.destroy(name)
        expected.apply_file()
