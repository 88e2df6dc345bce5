"""The files for Prometheus: valid rules, and alerts that fire when they are due and only then."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from epaird.control.metrics.collector import Collector
from epaird.control.readings import Reading

DIRECTORY = Path(__file__).parent.parent.parent / "deploy" / "prometheus"
RULES = DIRECTORY / "epaird.rules.yml"
RULE_TESTS = DIRECTORY / "epaird.rules.test.yml"


def promtool(*arguments: str | Path) -> str:
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool: apt-get install prometheus")
    done = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_configuration() -> None:
    assert "SUCCESS" in promtool("check", "config", "--lint=all", DIRECTORY / "prometheus.yml")


def test_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_alerts_fire_when_due_and_only_then() -> None:
    assert "SUCCESS" in promtool("test", "rules", RULE_TESTS)


def test_every_alert_and_every_recording_is_tested() -> None:
    rules, tests = RULES.read_text(), RULE_TESTS.read_text()
    for alert in re.findall(r"alert: (\w+)", rules):
        # One test expects the alert, and one expects none.
        assert re.search(rf"alertname: {alert}\n +exp_alerts:", tests), alert
        assert f"alertname: {alert}}}" in tests, alert


def test_the_rules_use_existing_metrics() -> None:
    families = Collector(lambda: Reading(interfaces=(), workers=())).describe()
    suffixes = {"counter": "_total", "info": "_info", "histogram": "_bucket"}
    known = {family.name + suffixes.get(family.type, "") for family in families}
    used = set(re.findall(r"(?<!:)\bepaird_\w+", RULES.read_text()))
    assert used <= known
