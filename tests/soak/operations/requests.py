"""Requests of a user of epairctl."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from epaird.names.cloners import cloner_of
from tests.scenarios.ctl import EPAIRCTL, control_socket, run_epairctl
from tests.soak.expected import Expected, Interface, words
from tests.soak.operations.operation import Operation
from tests.soak.site import Site
from tests.waiting import until


@dataclass(frozen=True, slots=True)
class Create(Operation):
    """An interface is created."""

    name: str
    settings: Interface
    by_kind: bool = False
    """True if it is requested by its kind alone and gets the lowest unit."""

    def __str__(self) -> str:
        return " ".join(["create", *self._words])

    def act(self, site: Site) -> None:
        made = site.ctl("create", *self._words).strip()
        device = cloner_of(self.name).devices_of(self.name)[0]
        assert made == device, f"made {made}, not {device}"

    def expect(self, expected: Expected) -> None:
        expected.create(self.name, self.settings)

    def retry(self, site: Site) -> None:
        done = run_epairctl(site.lab, "create", *self._words)
        assert done.returncode == 0 or "EEXIST" in done.stderr, done

    @property
    def _words(self) -> list[str]:
        return [self.name.rstrip("0123456789") if self.by_kind else self.name, *words(self.settings)]


@dataclass(frozen=True, slots=True)
class Destroy(Operation):
    """An interface is destroyed."""

    name: str
    by: str
    """The interface's name or a half's."""

    def __str__(self) -> str:
        return f"destroy {self.by}"

    def act(self, site: Site) -> None:
        site.ctl("destroy", self.by)

    def expect(self, expected: Expected) -> None:
        expected.destroy(self.name)

    def retry(self, site: Site) -> None:
        done = run_epairctl(site.lab, "destroy", self.by)
        assert done.returncode == 0 or "ENXIO" in done.stderr, done


@dataclass(frozen=True, slots=True)
class Set(Operation):
    """An interface is changed in place."""

    name: str
    by: str
    """The interface's name or a half's."""
    setting: str
    settings: Interface
    """The interface with the change."""

    def __str__(self) -> str:
        return f"set {self.by} {self.setting}"

    def act(self, site: Site) -> None:
        site.ctl("set", self.by, self.setting)

    def expect(self, expected: Expected) -> None:
        expected.change(self.name, self.settings)


@dataclass(frozen=True, slots=True)
class Patch(Operation):
    """A half is patched to another."""

    half: str
    other: str

    def __str__(self) -> str:
        return f"patch {self.half} {self.other}"

    def act(self, site: Site) -> None:
        site.ctl("patch", "--force", self.half, self.other)

    def expect(self, expected: Expected) -> None:
        expected.patch(self.half, self.other)


@dataclass(frozen=True, slots=True)
class Unpatch(Operation):
    """A half is unpatched."""

    half: str

    def __str__(self) -> str:
        return f"unpatch {self.half}"

    def act(self, site: Site) -> None:
        site.ctl("unpatch", self.half)

    def expect(self, expected: Expected) -> None:
        expected.unpatch(self.half)


@dataclass(frozen=True, slots=True)
class Refused(Operation):
    """A request is refused."""

    request: tuple[str, ...]
    error: str

    def __str__(self) -> str:
        return f"{' '.join(self.request)}: {self.error}"

    def act(self, site: Site) -> None:
        error = site.refused(*self.request)
        assert self.error in error, error


@dataclass(frozen=True, slots=True)
class Monitors(Operation):
    """Some monitors read events and are killed."""

    count: int

    def __str__(self) -> str:
        return f"{self.count} times epairctl monitor, killed"

    def act(self, site: Site) -> None:
        command = (EPAIRCTL, "--socket", str(control_socket(site.lab)), "monitor")
        monitors = [site.lab.home.start(*command) for _ in range(self.count)]

        def all_have_printed() -> bool:
            site.ctl("create", "epair60")
            site.ctl("destroy", "epair60")
            return all(b"epair60b" in each.stdout for each in monitors)

        until(all_have_printed, lambda: f"they print nothing: {monitors}")
        for each in monitors:
            each.signal(signal.SIGKILL)
            each.wait_exit()
