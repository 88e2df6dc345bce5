"""Changes of a device's simple properties, each by a request of its own, in an order that the kernel accepts."""

from __future__ import annotations

from dataclasses import dataclass

from epaird.kernel import link


@dataclass(frozen=True, slots=True)
class Properties:
    """Properties of a device to set; None leaves one as it is."""

    mac: str | None = None
    """MAC address, ``02:5d:11:22:33:0a``."""
    mtu: int | None = None
    """Maximum payload of a frame in bytes."""
    txqueuelen: int | None = None
    """Capacity of the device's ring in frames."""
    name: str | None = None
    """Name of the device."""
    up: bool | None = None
    """IFF_UP."""


def reconfigure(index: int, wanted: Properties, *, netns: str | None = None, device: str) -> None:
    """Set properties of a device.

    A device is set down before it is renamed, and up afterwards: kernels before 6.2 rename none that is up.
    Raises KernelError for the first refused change; the changes made before it stay in force.
    """
    if wanted.mac is not None:
        link.set_mac(index, wanted.mac, netns=netns, device=device)
    if wanted.mtu is not None:
        link.set_mtu(index, wanted.mtu, netns=netns, device=device)
    if wanted.txqueuelen is not None:
        link.set_txqueuelen(index, wanted.txqueuelen, netns=netns, device=device)
    if wanted.up is False:
        link.set_up(index, False, netns=netns, device=device)
    if wanted.name is not None:
        link.set_name(index, wanted.name, netns=netns, device=device)
    if wanted.up:
        link.set_up(index, True, netns=netns, device=device)
