from __future__ import annotations

from pathlib import Path

import pytest

from epaird.kernel import requirements
from tests.kernel.test_privileges import in_a_child

WITHOUT_PRIVILEGES = """
from epaird.kernel import privileges, requirements
privileges.drop_all()
print(*requirements.missing(namespaces={namespaces}), sep="\\n")
"""


@pytest.mark.real
def test_nothing_is_missing_here() -> None:
    assert requirements.missing() == []


@pytest.mark.real
def test_a_missing_device_file(tmp_path: Path) -> None:
    path = tmp_path / "tun"
    assert requirements.missing(tun_device=str(path)) == [
        f"{path} is missing: modprobe tun; in a container, start it with --device /dev/net/tun"
    ]


@pytest.mark.real
def test_an_unusable_device_file(tmp_path: Path) -> None:
    (line,) = requirements.missing(tun_device=str(tmp_path))
    assert line == f"{tmp_path} cannot be opened: Is a directory"


def test_without_privileges() -> None:
    lines = in_a_child(WITHOUT_PRIVILEGES.format(namespaces=True)).splitlines()
    assert lines[0].startswith("CAP_NET_ADMIN is missing (not root)")
    assert lines[1].startswith("CAP_SYS_ADMIN is missing (not root)")
    assert all("run as root" in line for line in lines[:2])


def test_optional_requirements() -> None:
    assert requirements.missing_optional() == []
    program = WITHOUT_PRIVILEGES.format(namespaces=True).replace(
        "missing(namespaces=True)", "missing_optional()"
    )
    (line,) = in_a_child(program).splitlines()
    assert line.startswith(
        "CAP_NET_BROADCAST is missing: changes that others make to interfaces in other namespaces"
    )


def test_devices_in_the_own_namespace_need_less() -> None:
    lines = in_a_child(WITHOUT_PRIVILEGES.format(namespaces=False)).splitlines()
    assert not any("CAP_SYS_ADMIN" in line for line in lines)
