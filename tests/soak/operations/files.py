"""Changes of the configuration file."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from tests.scenarios.ctl import run_epairctl
from tests.soak.expected import Expected, Interface
from tests.soak.operations.operation import Operation
from tests.soak.site import Site


@dataclass(frozen=True, slots=True)
class Reload(Operation):
    """Another file is loaded."""

    description: str
    file: tuple[tuple[str, Interface], ...]
    workers: int
    queue_limit: int
    by_signal: bool = False

    def __str__(self) -> str:
        return f"reload{' by signal' if self.by_signal else ''}: {self.description}"

    def act(self, site: Site) -> None:
        site.write(file=dict(self.file), workers=self.workers, queue_limit=self.queue_limit)
        if not self.by_signal:
            site.ctl("reload")
            return
        with site.expect_log("reloaded "):
            site.daemon.signal(signal.SIGHUP)

    def expect(self, expected: Expected) -> None:
        expected.file, expected.workers, expected.queue_limit = (
            dict(self.file),
            self.workers,
            self.queue_limit,
        )
        expected.apply_file()


@dataclass(frozen=True, slots=True)
class Invalid(Operation):
    """An invalid file is refused and changes nothing."""

    extra: str
    complaint: str
    upgrading: bool = False
    """True if an upgrade finds the mistake."""

    def __str__(self) -> str:
        return f"{'upgrade' if self.upgrading else 'reload'} with a mistake: {self.complaint}"

    def act(self, site: Site) -> None:
        site.write(self.extra)
        try:
            error = site.refused("upgrade" if self.upgrading else "reload")
            assert self.complaint in error, error
        finally:
            site.write()


@dataclass(frozen=True, slots=True)
class FailingReload(Operation):
    """A file that cannot be applied; the daemon undoes the changes made until then."""

    def __str__(self) -> str:
        return "reload that fails half-way"

    def act(self, site: Site) -> None:
        site.lab.home.ip("link add epair91b type veth peer name other91")  # no pair of the soak has this name
        try:
            site.write("[epair.epair92]\n[epair.epair91]\n")
            error = site.refused("reload")
            assert "epair91b" in error, error
            assert "everything is as it was before" in error, error
            assert "except" not in error, error
        finally:
            site.write()
            site.lab.home.ip("link del epair91b")


@dataclass(frozen=True, slots=True)
class Plan(Operation):
    """A reload is tried with --dry-run."""

    changes: bool
    """True if it would change anything."""

    def __str__(self) -> str:
        return f"reload --dry-run: {'changes' if self.changes else 'nothing'}"

    def act(self, site: Site) -> None:
        done = run_epairctl(site.lab, "reload", "--dry-run")
        assert (done.returncode, done.stderr) == (2 if self.changes else 0, ""), done


@dataclass(frozen=True, slots=True)
class Save(Operation):
    """The running configuration is saved; a reload of it would change nothing."""

    def __str__(self) -> str:
        return "save, plan what was saved"

    def act(self, site: Site) -> None:
        file = site.lab.directory / "saved.toml"
        file.write_text(site.ctl("save"))
        done = run_epairctl(site.lab, "plan", str(file))
        assert (done.returncode, done.stderr) == (0, ""), f"{done.stdout}{done.stderr}{file.read_text()}"
