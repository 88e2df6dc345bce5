"""Namespaces that others remove and make again under the same name."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from epaird.kernel.errors import KernelError
from epaird.kernel.namespace import Fingerprint, fingerprint, opened
from tests.scenarios.namespaces import Namespace
from tests.scenarios.transfers import ping
from tests.soak.expected import MADE, Expected, pair, words
from tests.soak.operations.operation import Operation
from tests.soak.site import Site
from tests.waiting import until

NAME: Final = "epair60"
"""The pair between green and the namespace that is made again; destroyed at the end of the operation."""
_PAIR: Final = pair(60, "$green", "$brief")
_ADDRESS: Final = "10.1.60.2"
"""The address of the half in the namespace."""


@dataclass(frozen=True, slots=True)
class NamespaceMadeAgain(Operation):
    """A foreign namespace is removed and made again under its name, and so is the pair in it."""

    def __str__(self) -> str:
        return "ip netns del, add, with an end of a pair in it"

    def act(self, site: Site) -> None:
        brief = site.lab.namespace("brief")
        for _ in range(2):
            site.ctl("create", NAME, *words(_PAIR))
            with site.expect_log(f"{NAME} is taken down whole"):
                brief.remove()
                brief.create()
            until(lambda: not site.has(NAME), site.recent)
        brief.remove()


@dataclass(frozen=True, slots=True)
class NamespaceDeleted(Operation):
    """A foreign namespace is removed, and with it the pair in it."""

    def __str__(self) -> str:
        return "ip netns del, with an end of a pair in it"

    def act(self, site: Site) -> None:
        brief = site.lab.namespace("brief")
        site.ctl("create", NAME, *words(_PAIR))
        with site.expect_log(f"{NAME} is taken down whole"):
            brief.remove()
        until(lambda: not site.has(NAME), site.recent)


@dataclass(frozen=True, slots=True)
class MadeNamespaceDeleted(Operation):
    """The namespace that the daemon created is removed, and the daemon or a reload creates it again."""

    names: tuple[str, ...]
    """The pairs in the namespace."""
    reload: bool

    def __str__(self) -> str:
        return "ip netns del of the daemon's own" + ", reload" * self.reload

    def act(self, site: Site) -> None:
        made = site.lab[MADE.removeprefix("$")]
        before = _fingerprint(made)
        made.remove()
        if self.reload:
            site.ctl("reload")

        def returned() -> bool:
            now = _fingerprint(made)
            return (
                now is not None
                and now != before
                and all(f"{name}b" in made.links("tun") for name in self.names)
            )

        until(returned, site.recent)

    def expect(self, expected: Expected) -> None:
        for name in self.names:
            expected.delete(name)
        if self.reload:
            expected.apply_file()


def _fingerprint(made: Namespace) -> Fingerprint | None:
    """Return what distinguishes a namespace from a later one, which may have its inode; None without one."""
    try:
        with opened(made.name) as found:
            return fingerprint(found)
    except KernelError:
        return None


@dataclass(frozen=True, slots=True)
class WithSomethingBetween(Operation):
    """An operation of two steps with another operation between them."""

    between: Operation | None

    @property
    def kinds(self) -> tuple[str, ...]:
        # A call of super() without arguments fails in a class with slots.
        return (*Operation.kinds.__get__(self), *(self.between.kinds if self.between else ()))

    @property
    def may_lose_frames(self) -> bool:  # type: ignore[override]
        return self.between is not None and self.between.may_lose_frames

    @property
    def new_control_plane(self) -> bool:  # type: ignore[override]
        return self.between is not None and self.between.new_control_plane

    def described(self, text: str) -> str:
        """Return a description with the operation between."""
        return f"{text}; between {self.between}" if self.between else text

    def do_between(self, site: Site) -> None:
        """Do the operation between."""
        if self.between is not None:
            self.between.act(site)

    def expect(self, expected: Expected) -> None:
        if self.between is not None:
            self.between.expect(expected)


@dataclass(frozen=True, slots=True)
class NamespaceReturns(WithSomethingBetween):
    """The namespace of a pair of the file is removed and made later: the pair is missing until then."""

    def __str__(self) -> str:
        return self.described("a namespace of the file removed, made again")

    def act(self, site: Site) -> None:
        brief = site.lab.namespace("brief")
        missing = len(site.expected.missing)
        with configured(site):
            brief.remove()
            _wait_for_missing(site, {missing + 1, 1})
            self.do_between(site)
            _wait_for_missing(site, {missing + 1, 1})
            brief.create()
            # Its device is in the namespace before both halves are configured.
            _wait_for_missing(site, {missing, 0})
            assert f"{NAME}b" in brief.links("tun"), site.recent()
            ping(site.lab["green"], _ADDRESS)
        brief.remove()

    def expect(self, expected: Expected) -> None:
        expected.apply_file()
        WithSomethingBetween.expect(self, expected)
        expected.apply_file()


def _wait_for_missing(site: Site, counts: set[int]) -> None:
    def missing() -> float:
        return site.daemon.metrics().value("epaird_interfaces_missing")

    until(lambda: missing() in counts, lambda: f"{missing():.0f} are missing, not {counts}")


@dataclass(frozen=True, slots=True)
class NamespaceReplaced(WithSomethingBetween):
    """A name leads to another namespace while a process keeps the old one, and there is a foreign device with
    the half's name and index: it stays as it is, and the half follows once the foreign device gives way."""

    in_file: bool
    reload: bool
    """True if a reload moves the half, False if the daemon does by itself."""

    def __str__(self) -> str:
        how = "reload" if self.reload else "by itself"
        what = "of the file" if self.in_file else "created at run time"
        return self.described(f"a namespace kept and replaced, a pair {what} follows {how}")

    def act(self, site: Site) -> None:
        brief = site.lab.namespace("brief")
        keeper = brief.start("sleep", "1000")
        try:
            with configured(site) if self.in_file else _created(site):
                self._replace(site, brief, site.lab.by_name(f"/proc/{keeper.pid}/ns/net"))
        finally:
            keeper.kill()
            brief.remove()

    def _replace(self, site: Site, brief: Namespace, old: Namespace) -> None:
        half = f"{NAME}b"
        before = _replace_with_foreign(site, brief, half, old.links("tun")[half].index)
        until(lambda: site.interface(half)["strayed"] == brief.name, site.recent)
        self.do_between(site)
        until(lambda: site.interface(half)["strayed"] == brief.name, site.recent)
        for setting in ("mtu=1400", "up=false", "up=true", "txqueuelen=700", "mtu=1500", "txqueuelen=10000"):
            site.ctl("set", half, setting)
        if self.in_file:
            restored = [each for each in site.planned().actions if each.name == half]
            assert any("netns" in str(each.details) for each in restored), site.planned()
            error = site.refused("reload")
            assert f"{half}: cannot be {half} in namespace {brief}" in error, error
        assert _device(brief, half) == before, f"{before} has become {_device(brief, half)}"
        ping(site.lab["green"], _ADDRESS)
        brief.ip(f"link set {half} down")
        brief.ip(f"link set {half} name foreign")
        if self.reload and self.in_file:
            site.ctl("reload")
        until(lambda: half in brief.links("tun"), site.recent)
        until(lambda: site.interface(half)["strayed"] == "", site.recent)
        assert not old.links("tun"), old.links("tun")
        ping(site.lab["green"], _ADDRESS)
        after = _device(brief, "foreign")
        for key in ("mtu", "address", "ifindex", "txqlen"):
            assert after[key] == before[key], f"the foreign device's {key} is {after[key]}"
        assert [each["local"] for each in after["addr_info"]] == ["10.99.0.7"], after

    def expect(self, expected: Expected) -> None:
        if self.in_file:
            expected.apply_file()
        WithSomethingBetween.expect(self, expected)
        if self.in_file:
            expected.apply_file()


def _replace_with_foreign(site: Site, netns: Namespace, device: str, index: int) -> dict[str, Any]:
    """Have a name lead to another namespace, which has a foreign device of this name and index; return it.

    The device is there before the name leads there, so that the half cannot follow at once."""
    fresh = site.lab.namespace("fresh", ipv6=False)
    other = index + 1000  # the peer may not take an index that a half has
    fresh.ip(f"link add {device} index {index} mtu 1234 type veth peer name other index {other}")
    fresh.ip(f"addr add 10.99.0.7/24 dev {device}")
    fresh.ip(f"link set {device} up")
    netns.remove()
    path = Path("/run/netns", netns.name)
    path.touch()
    subprocess.run(["mount", "--bind", f"/run/netns/{fresh}", str(path)], check=True)
    fresh.remove()
    return _device(netns, device)


def _device(netns: Namespace, name: str) -> dict[str, Any]:
    """Return a device with its addresses as ``ip`` shows it."""
    (found,) = (each for each in json.loads(netns.ip(f"-j addr show dev {name}")) if each)
    return dict(found)


@contextlib.contextmanager
def configured(site: Site) -> Iterator[None]:
    """Have the pair in the file for the block."""
    site.write(file={**site.expected.file, NAME: _PAIR})
    site.ctl("reload")
    site.wait_until_saved(NAME)
    try:
        yield
    finally:
        site.write()
    site.ctl("reload")


@contextlib.contextmanager
def _created(site: Site) -> Iterator[None]:
    """Have the pair for the block."""
    site.ctl("create", NAME, *words(_PAIR))
    site.wait_until_saved(NAME)
    yield
    site.ctl("destroy", NAME)
