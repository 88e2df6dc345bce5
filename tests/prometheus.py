"""A real Prometheus server (Debian's package) for a test, and promtool's check of a metrics page."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import urllib.parse
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import pytest

from tests.waiting import until

_CONFIGURATION = """
global:
  scrape_interval: 200ms
  scrape_timeout: 200ms
scrape_configs:
  - job_name: epaird
    static_configs:
      - targets: ["{target}"]
"""


class Sample(NamedTuple):
    """One series of an instant query's result."""

    labels: dict[str, str]
    value: float


class Prometheus:
    """Scrapes ``target`` five times a second into ``directory``, from ``with`` to its end.

    The server is a child process and listens on a free port of 127.0.0.1.
    """

    def __init__(self, directory: Path, target: str) -> None:
        self._directory = directory
        self._target = target
        self._log = directory / "log"
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        program = _program("prometheus")
        self._directory.mkdir(parents=True)
        configuration = self._directory / "prometheus.yml"
        configuration.write_text(_CONFIGURATION.format(target=self._target))
        self._port = _free_port()
        command = [
            program,
            f"--config.file={configuration}",
            f"--storage.tsdb.path={self._directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--log.level=warn",
        ]
        with self._log.open("wb") as log:
            self._process = process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self._directory
            )
        try:
            self._wait_ready(process)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def query(self, expression: str) -> list[Sample]:
        """Return the series of an instant query, in no order; empty when there are none."""
        answer = json.loads(self._get("/api/v1/query?" + urllib.parse.urlencode({"query": expression})))
        if answer["status"] != "success":
            raise AssertionError(f"{expression}: {answer}")
        return [Sample(series["metric"], float(series["value"][1])) for series in answer["data"]["result"]]

    def value(self, expression: str) -> float | None:
        """Return the value of a query's only series; None while there is no series."""
        series = self.query(expression)
        if len(series) > 1:
            raise AssertionError(f"{expression}: {len(series)} series")
        return series[0].value if series else None

    def until(self, expression: str, value: float) -> None:
        """Wait until the query's only series has this value."""
        until(
            lambda: self.value(expression) == value,
            lambda: f"{expression} is {self.value(expression)}, not {value}; targets: {self.targets()}",
        )

    def targets(self) -> list[dict[str, Any]]:
        """Return the server's view of its target: ``health``, ``lastError`` and more."""
        active: list[dict[str, Any]] = json.loads(self._get("/api/v1/targets"))["data"]["activeTargets"]
        return active

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> None:
        until(lambda: self._ready() or process.poll() is not None, self._log.read_text)
        if process.poll() is not None:
            raise AssertionError(f"Prometheus did not start:\n{self._log.read_text()}")

    def _ready(self) -> bool:
        try:
            self._get("/-/ready")
        except (OSError, http.client.HTTPException):
            return False
        return True

    def _get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK and not body.startswith(b"{"):
            raise http.client.HTTPException(f"{path}: {response.status}")
        return body

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def promtool_check(page: bytes) -> None:
    """Fail with the output of ``promtool check metrics`` if it reports anything."""
    check = subprocess.run(
        [_program("promtool"), "check", "metrics"], input=page, capture_output=True, check=False
    )
    report = (check.stdout + check.stderr).decode().strip()
    if check.returncode != 0 or report:
        raise AssertionError(f"promtool check metrics: exit {check.returncode}\n{report}")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}: apt-get install prometheus")
    return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
