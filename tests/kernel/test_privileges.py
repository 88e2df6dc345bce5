from __future__ import annotations

import json
import subprocess
import sys

import pytest

DROP_AND_SHOW = """
import os, sys
from epaird.kernel import privileges
privileges.drop_all()
privileges.drop_all()
with open("/proc/self/status") as status:
    sys.stdout.write(status.read())
"""


def in_a_child(program: str) -> str:
    """Return the output of a new Python process that runs ``program``."""
    command = [sys.executable, "-W", "error", "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def status(program: str) -> dict[str, str]:
    lines = in_a_child(program).splitlines()
    return {name: " ".join(value.split()) for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.real
def test_no_privilege_of_root_remains() -> None:
    shown = status(DROP_AND_SHOW)
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(shown[capabilities], 16) == 0, capabilities
    assert shown["NoNewPrivs"] == "1"
    assert shown["Uid"] == shown["Gid"] == "65534 65534 65534 65534"
    assert shown["Groups"] == ""


@pytest.mark.real
def test_execve_restores_nothing() -> None:
    program = DROP_AND_SHOW.replace(
        'with open("/proc/self/status") as status:\n    sys.stdout.write(status.read())',
        'os.execv("/bin/cat", ["cat", "/proc/self/status"])',
    )
    shown = status(program)
    assert int(shown["CapEff"], 16) == int(shown["CapPrm"], 16) == 0
    assert shown["Uid"] == "65534 65534 65534 65534"


def test_an_unprivileged_process_may_call_it_too() -> None:
    """A process that is not root, as after the first drop, skips the steps that it may not take."""
    program = "import os\nif os.geteuid() == 0: os.setresuid(65533, 65533, 65533)\n" + DROP_AND_SHOW
    import_first = "from epaird.kernel import privileges\n"
    shown = status(import_first + program)
    assert int(shown["CapEff"], 16) == int(shown["CapPrm"], 16) == 0
    assert shown["NoNewPrivs"] == "1"


@pytest.mark.real
def test_root_of_a_user_namespace_without_another_user_stays_itself_and_says_so() -> None:
    """It loses every capability all the same."""
    program = (
        "import json, re\nfrom epaird.kernel import privileges\nkept = privileges.drop_all()\n"
        "status = open('/proc/self/status').read()\n"
        "print(json.dumps([kept, *re.findall(r'^(?:Uid|CapEff|NoNewPrivs):\\s*(\\w+)', status, re.M)]))"
    )
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", program]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    kept, uid, capabilities, no_new_privs = json.loads(shown)
    assert kept == "changing to user 65534: the user namespace has no such user"
    assert (uid, int(capabilities, 16), no_new_privs) == ("0", 0, "1")


@pytest.mark.real
def test_open_file_descriptors_remain_usable() -> None:
    program = """
import os
from epaird.kernel import privileges, tun
tap = tun.open_tap(f"ept{os.getpid()}")
privileges.drop_all()
try:
    os.read(tap.fds[0], 100)
except BlockingIOError:
    print("nothing to read")
tap.close()
"""
    assert in_a_child(program) == "nothing to read\n"


@pytest.mark.parametrize("module", ["privileges", "abi", "errors"])
def test_it_imports_the_standard_library_only(module: str) -> None:
    program = f"""
import sys
before = set(sys.modules)
import epaird.kernel.{module}
for name in sorted({{name.partition(".")[0] for name in set(sys.modules) - before}}):
    if name not in sys.stdlib_module_names and not name.startswith(("_sysconfigdata", "_virtualenv")):
        print(name)
"""
    assert in_a_child(program) == "epaird\n"
