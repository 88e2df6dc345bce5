"""A control socket for each test, and an epairctl that uses it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control.control_server import serving
from tests.ctl.epairctl import Cli


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    with serving(tmp_path / "control.sock") as control:
        yield Cli(control)


@pytest.fixture
def pair(cli: Cli) -> Cli:
    """epairctl, and a daemon with epair0 and lo1."""
    cli.output("create", "epair")
    cli.output("create", "lo1")
    return cli
