"""Failures: processes die, stop and hang, and the control plane is replaced."""

from __future__ import annotations

import contextlib
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tests.scenarios.hanging import hang
from tests.soak.expected import Expected
from tests.soak.operations.operation import Operation
from tests.soak.site import Site
from tests.waiting import until


@dataclass(frozen=True, slots=True)
class WorkerDies(Operation):
    """A worker is killed, stopped, or hangs."""

    number: int
    how: str = "killed"
    with_the_spare: bool = False
    times: int = 1
    """Number of times in a row, each time as soon as there is a successor."""
    may_lose_frames = True

    def __str__(self) -> str:
        often = f" {self.times} times" * (self.times > 1)
        return f"worker {self.number} {self.how}{often}" + ", the spare killed" * self.with_the_spare

    def act(self, site: Site) -> None:
        if self.with_the_spare:
            site.kill(until(site.daemon.spares)[0])
        for _ in range(self.times):
            self._fail_once(site)

    def _fail_once(self, site: Site) -> None:
        pid = site.worker(self.number)
        if self.how == "hangs":
            with contextlib.suppress(ProcessLookupError), hang(pid):
                pass
        else:
            site.kill(pid, signal.SIGKILL if self.how == "killed" else signal.SIGSTOP)
        until(lambda: site.worker(self.number) != pid, site.recent)

    def expect(self, expected: Expected) -> None:
        if self.number in expected.restarts:
            expected.restarts[self.number] += self.times


@dataclass(frozen=True, slots=True)
class WorkersDie(Operation):
    """All workers are killed at once."""

    may_lose_frames = True

    def __str__(self) -> str:
        return "all workers killed"

    def act(self, site: Site) -> None:
        pids = [site.worker(number) for number in range(site.expected.workers)]
        with site.expect_log("again (pid", len(pids)):
            for pid in pids:
                site.kill(pid)

    def expect(self, expected: Expected) -> None:
        for number in expected.restarts:
            expected.restarts[number] += 1


@dataclass(frozen=True, slots=True)
class SpareDies(Operation):
    """The spare is killed."""

    def __str__(self) -> str:
        return "the spare killed"

    def act(self, site: Site) -> None:
        (pid,) = until(site.daemon.spares)
        site.kill(pid)
        until(lambda: pid not in site.daemon.spares())


@dataclass(frozen=True, slots=True)
class ControlDies(Operation):
    """The control plane is killed, and another daemon takes over."""

    new_control_plane = True

    def __str__(self) -> str:
        return "control plane killed, started again"

    def act(self, site: Site) -> None:
        site.daemon.signal(signal.SIGKILL)
        site.restart_daemon()

    def expect(self, expected: Expected) -> None:
        expected.take_over()


@dataclass(frozen=True, slots=True)
class ControlKeeps(Operation):
    """The daemon ends with keep_devices, and another daemon takes over."""

    new_control_plane = True

    def __str__(self) -> str:
        return "stopped with keep_devices, started again"

    def act(self, site: Site) -> None:
        site.write(keep_devices=True)
        site.ctl("reload")
        site.daemon.signal(signal.SIGTERM)
        assert site.daemon.wait_exit() == 0, site.recent()
        site.write()
        site.restart_daemon()

    def expect(self, expected: Expected) -> None:
        expected.apply_file()


@dataclass(frozen=True, slots=True)
class ControlStops(Operation):
    """The control plane is stopped for a while."""

    seconds: float

    def __str__(self) -> str:
        return f"control plane stopped for {self.seconds} s"

    def act(self, site: Site) -> None:
        site.daemon.signal(signal.SIGSTOP)
        time.sleep(self.seconds)
        site.daemon.signal(signal.SIGCONT)
        site.daemon.metrics()


@dataclass(frozen=True, slots=True)
class Upgrade(Operation):
    """The daemon is upgraded in place, and its workers are renewed."""

    by_signal: bool = False
    new_control_plane = True

    def __str__(self) -> str:
        return f"upgrade by {'signal' if self.by_signal else 'epairctl'}"

    def act(self, site: Site) -> None:
        with site.expect_log("upgraded to"):
            if self.by_signal:
                site.daemon.signal(signal.SIGUSR2)
            else:
                site.ctl("upgrade")

    def expect(self, expected: Expected) -> None:
        expected.take_over()


@dataclass(frozen=True, slots=True)
class Concurrent(Operation):
    """Two operations at once."""

    first: Operation
    second: Operation
    delay_ms: int
    """Milliseconds before the second operation begins."""

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("two at once", *self.first.kinds, *self.second.kinds)

    @property
    def may_lose_frames(self) -> bool:  # type: ignore[override]
        return self.first.may_lose_frames or self.second.may_lose_frames

    @property
    def new_control_plane(self) -> bool:  # type: ignore[override]
        return self.first.new_control_plane or self.second.new_control_plane

    @property
    def restarts_uncertain(self) -> bool:  # type: ignore[override]
        return self.first.new_control_plane

    def __str__(self) -> str:
        return f"{self.first}; after {self.delay_ms} ms {self.second}"

    def act(self, site: Site) -> None:
        with ThreadPoolExecutor(1) as thread:
            acting = thread.submit(self.first.act, site)
            time.sleep(self.delay_ms / 1000)
            try:
                self.second.act(site)
            finally:
                failure = acting.exception()
        if failure is not None and not isinstance(self.second, ControlDies):
            raise failure  # the reply of a control plane that is killed is lost with it
        if self._uncertain is not None:
            self._uncertain.retry(site)

    def expect(self, expected: Expected) -> None:
        if self._uncertain is self.first:
            self.second.expect(expected)
            self.first.expect(expected)
        else:
            self.first.expect(expected)
            self.second.expect(expected)

    @property
    def _uncertain(self) -> Operation | None:
        """The operation that may or may not have been done when a control plane ended."""
        if self.second.new_control_plane:
            return self.first
        return self.second if self.first.new_control_plane and not self.second.may_lose_frames else None
