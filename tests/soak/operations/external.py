"""Changes by others: devices are deleted, renamed and resized, namespaces are removed."""

from __future__ import annotations

from dataclasses import dataclass

from tests.scenarios.addressing import addresses
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
class DeviceRenamed(Operation):
    """A device is renamed while it is up, and ``epairctl set`` gives it its name again."""

    device: str
    netns: str

    def __str__(self) -> str:
        return f"ip link set {self.device} name other, epairctl set name"

    def act(self, site: Site) -> None:
        netns = site.lab.namespace_of(site.expand(self.netns))
        with site.expect_log(f"{self.device}: renamed from {self.device} to other"):
            netns.ip(f"link set {self.device} name other")
        site.ctl("set", self.device, f"name={self.device}")


@dataclass(frozen=True, slots=True)
class AddressRemoved(Operation):
    """An address is removed and another one added: the plan shows it, and a reload puts back the first."""

    device: str
    netns: str
    address: str

    def __str__(self) -> str:
        return f"ip address del {self.address} dev {self.device}, reload"

    def act(self, site: Site) -> None:
        netns = site.lab.namespace_of(site.expand(self.netns))
        netns.ip(f"address add 10.66.0.1/24 dev {self.device}")
        netns.ip(f"address del {self.address} dev {self.device}")
        restored = {each.name for each in site.planned().actions if each.verb == "restore"}
        assert restored == {self.device}, restored
        site.ctl("reload")
        assert "10.66.0.1/24" in addresses(netns, self.device)
        netns.ip(f"address del 10.66.0.1/24 dev {self.device}")

    def expect(self, expected: Expected) -> None:
        expected.apply_file()


@dataclass(frozen=True, slots=True)
class NamespaceMadeAgain(Operation):
    """A foreign namespace is removed and made again under its name, and so is the pair in it."""

    def __str__(self) -> str:
        return "ip netns del, add, with an end of a pair in it"

    def act(self, site: Site) -> None:
        brief = site.lab.namespace("brief")
        for _ in range(2):
            site.ctl("create", "epair60", *words(pair(60, "$green", "$brief")))
            with site.expect_log("epair60 is taken down whole"):
                brief.remove()
                brief.create()
            until(lambda: all(each["pair"] != "epair60" for each in site.interfaces()), site.recent)
        brief.remove()


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
