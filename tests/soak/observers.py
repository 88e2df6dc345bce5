"""Clients that read from the daemon all the time, as Prometheus and users do."""

from __future__ import annotations

import threading
from typing import Final, Self

from epaird.client.client import Client, DaemonError
from tests.scenarios.ctl import control_socket
from tests.soak.site import Site

_PAUSE_S: Final = 0.1
_OK: Final = 200
_EXHAUSTED: Final = "too many files are open"
_ABSENT: Final = ("has ended", "has closed the connection", "is not running", _EXHAUSTED)


class Observers:
    """The clients, from ``with`` to its end.

    That no daemon runs is not an error for them, nor that it has no descriptor left for them."""

    def __init__(self, site: Site) -> None:
        self.errors: list[str] = []
        self.scrapes = 0
        """Successful scrapes."""
        self._site = site
        self._allowed = threading.Event()
        self._paused = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observers", daemon=True)

    def __enter__(self) -> Self:
        self._allowed.set()
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopping.set()
        self._allowed.set()
        self._thread.join()

    def pause(self) -> None:
        """Stop reading; returns once no request is under way."""
        self._allowed.clear()
        self._paused.wait()

    def go(self) -> None:
        """Resume reading."""
        self._paused.clear()
        self._allowed.set()

    def _run(self) -> None:
        while not self._stopping.wait(_PAUSE_S):
            if not self._allowed.is_set():
                self._paused.set()
                self._allowed.wait()
            self._scrape()
            self._ask()

    def _scrape(self) -> None:
        try:
            status, body = self._site.daemon.get("/metrics")
        except (OSError, AssertionError, IndexError, ValueError):
            return  # the daemon has ended, or its successor has not started
        if _EXHAUSTED.encode() in body:
            return
        self.scrapes += 1
        if status != _OK:
            self.errors.append(f"/metrics: {status} {body[:200]!r}")

    def _ask(self) -> None:
        try:
            Client(str(control_socket(self._site.lab))).ask("GET", "stats")
        except DaemonError as failed:
            if not any(words in str(failed) for words in _ABSENT):
                self.errors.append(f"/v1/stats: {failed}")
