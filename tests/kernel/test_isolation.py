from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from epaird.kernel.isolation import KINDS

PROGRAM = """
import json, os, socket, sys
from epaird.kernel import isolation
from epaird.kernel.errors import KernelError
before = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in isolation.KINDS}
places = {kind: os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in isolation.KINDS}
task = os.open("/proc/thread-self/ns", os.O_RDONLY)
errors = []
for kind in sys.argv[1:] or isolation.KINDS:
    try:
        isolation.enter_empty(kind)
    except KernelError as error:
        errors.append(str(error))
after = {kind: os.readlink(kind, dir_fd=task) for kind in isolation.KINDS}
os.write(1, json.dumps({
    "new": [kind for kind in isolation.KINDS if before[kind] != after[kind]],
    "errors": errors,
    "files": os.listdir("/"),
    "writable": os.access("/", os.W_OK),
    "interfaces": [name for _, name in socket.if_nameindex()],
    "directory": os.getcwd(),
}).encode())
"""


def isolated(*command: str, kinds: tuple[str, ...] = ()) -> dict[str, object]:
    program = [*command, sys.executable, "-c", PROGRAM, *kinds]
    done = subprocess.run(program, check=True, capture_output=True, text=True)
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.real
def test_every_namespace_is_new_and_empty() -> None:
    found = isolated()
    assert found["errors"] == []
    assert found["new"] == list(KINDS)
    assert found["files"] == []
    assert found["directory"] == "/"
    assert found["interfaces"][:1] == ["lo"]  # type: ignore[index]


@pytest.mark.real
def test_the_empty_root_cannot_be_written_to() -> None:
    program = PROGRAM.replace('"writable": os.access("/", os.W_OK)', '"writable": attempt()').replace(
        "errors = []",
        """errors = []
def attempt():
    try:
        os.mkdir("/there")
    except OSError as error:
        return error.errno
""",
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout)["writable"] == 30  # EROFS


@pytest.mark.real
def test_without_the_privilege_nothing_changes_and_the_error_says_why() -> None:
    dropped = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    found = isolated(*dropped)
    assert found["new"] == []
    assert [error.partition(":")[0] for error in found["errors"]] == [  # type: ignore[attr-defined]
        f"{kind} namespace" for kind in KINDS
    ]
    assert "etc" in found["files"]  # type: ignore[operator]


@pytest.mark.real
def test_in_a_user_namespace_it_works_as_for_root() -> None:
    found = isolated("unshare", "--user", "--map-root-user")
    assert found["new"] == list(KINDS)
    assert found["files"] == []


@pytest.mark.real
def test_a_mount_namespace_whose_root_stays_is_left_again() -> None:
    """Its copy of every mount would keep those alive that are removed elsewhere."""
    program = (
        "from epaird.kernel import isolation\nisolation._ANY_DIRECTORY = b'/no such directory'\n" + PROGRAM
    )
    done = subprocess.run([sys.executable, "-c", program, "mnt"], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert found["new"] == []
    assert found["errors"] == ["mnt namespace: No such file or directory"]
    assert sorted(found["files"]) == sorted(each.name for each in Path("/").iterdir())
