"""Changes of devices by others: they are deleted, set down, renamed, resized and given other addresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tests.scenarios.addressing import addresses, routes
from tests.soak.expected import Expected
from tests.soak.operations.operation import Operation
from tests.soak.site import Site

IPV6_LEAST: Final = 1280
"""The least MTU of a device with IPv6."""


@dataclass(frozen=True, slots=True)
class DeviceDeleted(Operation):
    """A device of an interface that was created at run time is deleted, which destroys the interface."""

    name: str
    device: str
    kernel_name: str
    netns: str

    def __str__(self) -> str:
        return f"ip link del {self.device}"

    def act(self, site: Site) -> None:
        netns = site.lab.namespace_of(site.expand(self.netns))
        with site.expect_log(f"{self.device}: the device is gone"):
            netns.ip(f"link del {self.kernel_name}")

    def expect(self, expected: Expected) -> None:
        expected.delete(self.name)


@dataclass(frozen=True, slots=True)
class ConfiguredDeviceDeleted(Operation):
    """A device of an interface of the file is deleted: it comes back, by itself or with a reload."""

    name: str
    device: str
    kernel_name: str
    netns: str
    reload: bool

    def __str__(self) -> str:
        return f"ip link del {self.device}, of the file" + ", reload" * self.reload

    def act(self, site: Site) -> None:
        netns = site.lab.namespace_of(site.expand(self.netns))
        if self.reload:
            with site.expect_log(f"{self.device}: the device is gone"):
                netns.ip(f"link del {self.kernel_name}")
            site.ctl("reload")
        else:
            with site.expect_log(f"{self.name}: others have deleted it"):
                netns.ip(f"link del {self.kernel_name}")

    def expect(self, expected: Expected) -> None:
        expected.delete(self.name)
        if self.reload:
            expected.apply_file()


@dataclass(frozen=True, slots=True)
class DeviceFlapped(Operation):
    """A device is set down, renamed and resized, and all of it is undone; what others added to it stays."""

    device: str
    kernel_name: str
    netns: str
    mtu: int
    up: bool
    lowest: int
    """The MTU that the device has in between."""

    def __str__(self) -> str:
        return f"ip link set {self.device} down, name, mtu {self.lowest}, and back"

    def act(self, site: Site) -> None:
        netns = site.lab.namespace_of(site.expand(self.netns))
        netns.ip(f"address add 10.66.0.1/24 dev {self.kernel_name}")
        netns.ip(f"link set {self.kernel_name} down")
        netns.ip(f"link set {self.kernel_name} name other")
        netns.ip(f"link set other mtu {self.lowest}")
        netns.ip(f"link set other mtu {self.mtu}")
        netns.ip(f"link set other name {self.kernel_name}")
        if self.up:
            netns.ip(f"link set {self.kernel_name} up")
        assert "10.66.0.1/24" in addresses(netns, self.kernel_name)
        netns.ip(f"address del 10.66.0.1/24 dev {self.kernel_name}")


@dataclass(frozen=True, slots=True)
class DeviceResized(Operation):
    """A device that is up gets an MTU without IPv6, and the old one again."""

    device: str
    kernel_name: str
    netns: str
    mtu: int

    def __str__(self) -> str:
        return f"ip link set {self.device} mtu 1000, and back"

    def act(self, site: Site) -> None:
        netns = site.lab.namespace_of(site.expand(self.netns))
        netns.ip(f"link set {self.kernel_name} mtu 1000")
        netns.ip(f"link set {self.kernel_name} mtu {self.mtu}")


@dataclass(frozen=True, slots=True)
class DeviceRenamed(Operation):
    """A device is renamed while it is up, and ``epairctl set`` gives it its name again."""

    device: str
    kernel_name: str
    netns: str

    def __str__(self) -> str:
        return f"ip link set {self.device} name other, epairctl set name"

    def act(self, site: Site) -> None:
        netns = site.lab.namespace_of(site.expand(self.netns))
        with site.expect_log(f"{self.device}: renamed from {self.kernel_name} to other"):
            netns.ip(f"link set {self.kernel_name} name other")
        site.ctl("set", self.device, f"name={self.kernel_name}")


@dataclass(frozen=True, slots=True)
class AddressRemoved(Operation):
    """An address or a route is removed and others are added: the plan shows the first, and a reload restores
    it and leaves the others."""

    device: str
    kernel_name: str
    netns: str
    removed: str
    """The address or the route, as ``ip`` has it."""

    def __str__(self) -> str:
        return f"ip {self._what} del {self.removed} dev {self.device}, reload"

    @property
    def _what(self) -> str:
        return "route" if " via " in self.removed else "address"

    def act(self, site: Site) -> None:
        netns = site.lab.namespace_of(site.expand(self.netns))
        netns.ip(f"address add 10.66.0.1/24 dev {self.kernel_name}")
        netns.ip(f"route add 10.67.0.0/24 via 10.66.0.9 dev {self.kernel_name}")
        family = "-6 " if ":" in self.removed else ""
        netns.ip(f"{family}{self._what} del {self.removed} dev {self.kernel_name}")
        restored = {each.name for each in site.planned().actions if each.verb == "restore"}
        assert restored == {self.device}, restored
        site.ctl("reload")
        assert "10.66.0.1/24" in addresses(netns, self.kernel_name)
        assert "10.67.0.0/24 via 10.66.0.9" in routes(netns, self.kernel_name)
        netns.ip(f"route del 10.67.0.0/24 via 10.66.0.9 dev {self.kernel_name}")
        netns.ip(f"address del 10.66.0.1/24 dev {self.kernel_name}")

    def expect(self, expected: Expected) -> None:
        expected.apply_file()
