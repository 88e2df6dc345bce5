from __future__ import annotations

import os
import subprocess
import time

import pytest

from epaird.kernel.procstatus import CAPABILITIES, capability_names, status_of


def test_this_process_is_in_none_but_its_own_namespaces() -> None:
    found = status_of(os.getpid())
    assert found is not None
    assert found.uid == os.geteuid()
    assert found.namespaces == ()
    assert found.seccomp in ("none", "filter")
    assert found.cpu_seconds <= time.process_time() < found.cpu_seconds + 60
    assert 0 < found.age_seconds < time.clock_gettime(time.CLOCK_BOOTTIME)


@pytest.mark.real
def test_a_process_without_privileges_in_a_namespace_of_its_own() -> None:
    command = (
        "unshare", "--net", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs",
        "--bounding-set=-all", "--inh-caps=-all", "sh", "-c", "echo; read line",
    )  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = status_of(process.pid)
        process.kill()
    assert found is not None
    assert (found.uid, found.capabilities, found.no_new_privs) == (65534, (), True)
    assert found.namespaces == ("net",)


def test_a_process_that_has_ended_has_none() -> None:
    with subprocess.Popen(("true",)) as process:
        process.wait()
        assert status_of(process.pid) is None


def test_capabilities_have_the_names_of_their_numbers() -> None:
    assert capability_names(0) == ()
    assert capability_names(1 << 12 | 1 << 21) == ("net_admin", "sys_admin")
    assert capability_names(1 << 40 | 1 << 63) == ("checkpoint_restore", "63")
    assert len(CAPABILITIES) == len(set(CAPABILITIES)) == 41
