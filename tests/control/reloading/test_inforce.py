"""The configuration in force, and the results of reloads."""

from __future__ import annotations

from pathlib import Path

from epaird.config.settings import Configuration, DaemonSettings
from epaird.control.reloading.inforce import ConfigurationInForce, Source


def test_reloads_are_counted_with_the_digest_of_the_file_in_force() -> None:
    in_force = ConfigurationInForce(Configuration(), Source(Path("/etc/epaird.toml"), "one"))
    first = in_force.reading()
    assert (first.successful, first.successes, first.failures, first.sha256) == (True, 0, 0, "one")
    in_force.reload_failed()
    failed = in_force.reading()
    assert (failed.successful, failed.successes, failed.failures, failed.sha256) == (False, 0, 1, "one")
    assert failed.success_time == first.success_time
    in_force.reload_succeeded("two")
    second = in_force.reading()
    assert (second.successful, second.successes, second.failures, second.sha256) == (True, 1, 1, "two")
    assert second.success_time >= first.success_time


def test_a_configuration_that_was_read_from_no_file() -> None:
    in_force = ConfigurationInForce(Configuration())
    assert (in_force.path, in_force.digest) == (None, "")


def test_keys_that_need_a_restart_stay_as_they_are() -> None:
    in_force = ConfigurationInForce(Configuration())
    before = in_force.current.daemon.control_socket
    daemon = DaemonSettings(control_socket=Path("/run/elsewhere/control.sock"), queue_limit=7)
    in_force.daemon = daemon
    in_force.applied(Configuration(daemon=daemon))
    assert in_force.current.daemon == daemon.model_copy(update={"control_socket": before})
