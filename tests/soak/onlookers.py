"""Who looks at a daemon all the time, as Prometheus and people do, whatever is done to it."""

from __future__ import annotations

import threading
from typing import Final, Self

from epaird.client.client import Client, DaemonError
from tests.scenarios.ctl import control_socket
from tests.soak.site import Site

_PAUSE_S: Final = 0.1
_OK: Final = 200
_ABSENT: Final = ("has ended", "is not running")


class Onlookers:
    """They look from ``with`` to its end; that there is no daemon to be seen is no complaint."""

    def __init__(self, site: Site) -> None:
        self.complaints: list[str] = []
        self.looks = 0
        """At which there was something to be seen."""
        self._site = site
        self._may = threading.Event()
        self._resting = threading.Event()
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="onlookers", daemon=True)

    def __enter__(self) -> Self:
        self._may.set()
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ending.set()
        self._may.set()
        self._thread.join()

    def pause(self) -> None:
        """Look away; returns once nobody looks."""
        self._may.clear()
        self._resting.wait()

    def go(self) -> None:
        """Look on."""
        self._resting.clear()
        self._may.set()

    def _look_on(self) -> None:
        while not self._ending.wait(_PAUSE_S):
            if not self._may.is_set():
                self._resting.set()
                self._may.wait()
            self._scrape()
            self._ask()

    def _scrape(self) -> None:
        try:
            status, body = self._site.daemon.get("/metrics")
        except (OSError, AssertionError, IndexError, ValueError):
            return  # it has ended, or its successor has not begun
        self.looks += 1
        if status != _OK:
            self.complaints.append(f"/metrics: {status} {body[:200]!r}")

    def _ask(self) -> None:
        try:
            Client(str(control_socket(self._site.lab))).ask("GET", "stats")
        except DaemonError as failed:
            if not any(words in str(failed) for words in _ABSENT):
                self.complaints.append(f"/v1/stats: {failed}")
