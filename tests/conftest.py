"""Rules for every test: real tests run only where they can, and no skip goes unseen."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

from tests.prometheus import Prometheus

NO_SKIPS = os.environ.get("EPAIRD_NO_SKIPS", "") not in ("", "0")
"""True where everything must run: a test that cannot run fails then."""

# The machines may be busy, and no property is about time.
settings.register_profile("epaird", parent=settings.default, deadline=None)
settings.load_profile("epaird")


def _missing_requirement() -> str | None:
    if os.geteuid() != 0:
        return "needs root: real devices in network namespaces"
    if not Path("/dev/net/tun").exists():
        return "needs /dev/net/tun (modprobe tun)"
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a real test where it cannot run, or fail it where skips are forbidden."""
    if item.get_closest_marker("real") is None or (reason := _missing_requirement()) is None:
        return
    if NO_SKIPS:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run for every other skip, such as an import skip of a whole module."""
    if NO_SKIPS and _skipped(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print why a run without failures failed."""
    if NO_SKIPS and (skipped := _skipped(terminalreporter.config)):
        terminalreporter.write_line(f"EPAIRD_NO_SKIPS is set and {skipped} skipped: failed", red=True)


def _skipped(config: pytest.Config) -> int:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return len(reporter.stats.get("skipped", ())) if reporter else 0


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Callable[[str], Prometheus]]:
    """Return a function that starts a real Prometheus server, which scrapes a ``host:port``."""
    with ExitStack() as running:

        def start(target: str) -> Prometheus:
            return running.enter_context(Prometheus(tmp_path / f"prometheus-{target}", target))

        yield start
