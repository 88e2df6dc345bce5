"""The configuration in force, the file that it was read from, and the results of its reloads."""

from __future__ import annotations

import time
from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path

from epaird.config.settings import Configuration, DaemonSettings, InterfaceSettings
from epaird.control.readings import ConfigurationReading


@dataclass(frozen=True, slots=True)
class Source:
    """The file that the configuration was read from."""

    path: Path
    """Absolute path."""
    sha256: str
    """Digest of the file as it was read."""


class ConfigurationInForce:
    """The configuration that was applied last, and the results of reloads."""

    def __init__(self, configuration: Configuration, source: Source | None = None) -> None:
        """``source`` is None for a configuration that was read from no file."""
        self.current = configuration
        """The configuration that was applied last."""
        self.daemon: DaemonSettings = configuration.daemon
        """Settings of the daemon itself that apply now.

        They differ from those of ``current`` while another configuration is being applied."""
        self.path = source.path if source is not None else None
        """Path of the file."""
        self.digest = source.sha256 if source is not None else ""
        """Digest of the file as it was last read, whether it was applied or not."""
        self._reading = ConfigurationReading(success_time=time.time(), sha256=self.digest)

    def absent(self, present: Container[str]) -> tuple[str, ...]:
        """Return the pairs and loopbacks of the configuration that are not among those ``present``."""
        return tuple(name for name in self.current.settings_by_name() if name not in present)

    def withdrawn(self, names: Container[str]) -> dict[str, InterfaceSettings]:
        """Return the settings of the pairs and loopbacks of the configuration that are among ``names``."""
        return {name: each for name, each in self.current.settings_by_name().items() if name in names}

    def applied(self, configuration: Configuration) -> None:
        """Record a configuration that was applied.

        Keys that only a restart of the daemon applies stay as they are."""
        daemon = configuration.daemon.model_copy(
            update={"control_socket": self.current.daemon.control_socket}
        )
        self.current = configuration.model_copy(update={"daemon": daemon})

    def reload_succeeded(self, digest: str) -> None:
        """Count a reload that was successful; ``digest`` is that of the file."""
        reading = self._reading
        self._reading = ConfigurationReading(
            True, time.time(), reading.successes + 1, reading.failures, digest
        )

    def reload_failed(self) -> None:
        """Count a reload that failed."""
        self._reading = replace(self._reading, successful=False, failures=self._reading.failures + 1)

    def reading(self) -> ConfigurationReading:
        """Return the results of the reloads of the file."""
        return self._reading
