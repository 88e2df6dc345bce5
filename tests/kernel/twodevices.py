"""Two TAP devices in a namespace of their own, changed by epaird and by others."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from epaird.kernel import abi, link, namespace, requests, tun
from epaird.kernel.convergence import Scope, Target, converge
from epaird.kernel.errors import KernelError
from epaird.kernel.link import LinkSettings
from epaird.kernel.netlink import RouteSocket
from epaird.kernel.state import DeviceState, PresentRoute, read
from tests.kernel.named import at, within

NOTHING = LinkSettings(1500, 10)


class CountingSocket(RouteSocket):
    """A socket that counts the requests that change something."""

    requests = 0

    def execute(self, requests: Sequence[tuple[int, int, bytes]]) -> list[int]:
        self.requests += len(requests)
        return super().execute(requests)


class TwoDevices:
    """The devices ``x0`` and ``x1``, which are up and have carrier."""

    def __init__(self, netns: str, taps: Sequence[tun.Tap]) -> None:
        self.netns = netns
        self.taps = tuple(taps)
        self.names = ["x0", "x1"]
        self.indexes = [tap.index for tap in taps]
        self.wanted = [NOTHING, NOTHING]

    def ip(self, *arguments: str) -> bool:
        """Run ``ip`` as another program; return whether the kernel accepted it."""
        command = ["ip", "-n", self.netns, *arguments]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def link(self, number: int, state: str) -> None:
        """Set a device up or down, as another program."""
        assert self.ip("link", "set", self.names[number], state)

    def rename(self, number: int, name: str) -> None:
        """Rename a device, as another program."""
        assert self.ip("link", "set", self.names[number], "name", name)
        self.names[number] = name

    def sysctl(self, path: str, value: str) -> None:
        """Set a parameter of the namespace."""
        with within(self.netns):
            Path("/proc/sys/net", path).write_text(value)

    def accepts(self, route: PresentRoute) -> bool:
        """Return whether the kernel accepts a route that is absent."""
        request = requests.as_described("", abi.RTM_NEWROUTE, route.message)
        with within(self.netns), contextlib.closing(RouteSocket()) as socket:
            return socket.execute([(request.kind, request.flags, request.payload)]) == [0]

    def shown(self, *arguments: str) -> list[Any]:
        """Return what ``ip -j`` shows."""
        command = ["ip", "-n", self.netns, "-j", *arguments]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout or "[]")
        return [each for each in found if each]

    def converge(self, *targets: Target) -> tuple[list[KernelError | None], int]:
        """Converge; return the outcomes and the number of requests."""
        with within(self.netns), contextlib.closing(CountingSocket()) as route:
            return converge(route, targets), route.requests

    def want(self, wanted: Sequence[LinkSettings]) -> list[KernelError | None]:
        """Give both devices other settings, as a reload does."""
        before, self.wanted = self.wanted, list(wanted)
        return self.converge(*self.targets(before))[0]

    def targets(
        self, released: Sequence[LinkSettings | None] = (None, None), scope: Scope = Scope.ALL
    ) -> list[Target]:
        """Return the present targets of both devices."""
        return [
            Target(f"epair{number}a", self.indexes[number], self.wanted[number], released[number], scope)
            for number in range(2)
        ]

    def states(self) -> list[DeviceState]:
        """Return what the devices have."""
        with within(self.netns), contextlib.closing(RouteSocket()) as route:
            found = read(route).devices
        return [found[index] for index in self.indexes]

    def routes(self) -> list[PresentRoute]:
        """Return all routes that the kernel did not add by itself."""
        with within(self.netns), contextlib.closing(RouteSocket()) as route:
            return [each for each in read(route).routes if not each.automatic]

    def local_addresses(self, number: int) -> list[str]:
        """Return a device's global addresses as ``ip`` lists them."""
        (found,) = self.shown("addr", "show", "dev", self.names[number])
        infos = [each for each in found["addr_info"] if each["scope"] == "global"]
        return [f"{each['local']}/{each['prefixlen']}" for each in infos]


@contextlib.contextmanager
def two_devices(name: str) -> Iterator[TwoDevices]:
    """Create a namespace with two devices, and remove it."""
    namespace.create(name)
    with contextlib.ExitStack() as stack:
        stack.callback(namespace.remove, name)
        with within(name):
            taps = [tun.open_tap(f"x{number}", queues=1, offload=False) for number in range(2)]
        for tap in taps:
            stack.callback(tap.close)
        made = TwoDevices(name, taps)
        for index in made.indexes:
            at(name, link.configure, index, NOTHING)
        yield made
