"""Names that an owner gives: any bytes that Linux accepts, one printable form everywhere else."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from epaird.client.client import Client
from epaird.kernel.printable import printable
from tests.scenarios.ctl import EPAIRCTL, control_socket, epairctl, refused, reload, rewrite, run_epairctl
from tests.scenarios.faults import Cable
from tests.scenarios.lab import CABLE, Daemon, Lab, pair
from tests.scenarios.namespaces import Process
from tests.waiting import until

pytestmark = pytest.mark.real

HOSTILE: Final = b"e\xff\x1b[31m\\x1b\x7f"
"""Not UTF-8, a terminal's colour, what looks like an escape of ours, and DEL."""
SHOWN: Final = "e\\xff\\x1b[31m\\x5cx1b\\x7f"

NAMES: Final = (
    st.one_of(
        st.binary(min_size=1, max_size=15),
        st.text(min_size=1, max_size=5).map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.lists(
            st.sampled_from(
                [b"\\", b"x", b"1b", b"5c", b"ff", b"\x1b", b"\xff", b'"', b"'", b"{", b"=", b"#"]
            ),
            min_size=1,
            max_size=7,
        ).map(b"".join),
    )
    .map(lambda name: name[:15].translate(None, b"\0/: \t\n\v\f\r%\xa0"))
    .filter(lambda name: name not in (b"", b".", b"..", b"all", b"default", b"lo", b"eth0", b"epair0a"))
)
"""Names that Linux accepts, other than those that the devices of the test have already."""


def assert_log_prints(daemon: Daemon) -> None:
    """Check that the log holds no control character and no traceback."""
    for line in daemon.log:
        assert line.isprintable(), line
    assert "Traceback" not in daemon.stderr


def monitoring(lab: Lab, index: int) -> Process:
    """Start ``epairctl -j monitor``; return once it prints events of the device of this index in red."""
    red = lab["red"]
    running = red.start(EPAIRCTL, "--socket", str(control_socket(lab)), "-j", "monitor")

    names = itertools.cycle((b"ready", b"eth0"))  # not both at once: the daemon would merge them

    def prints() -> bool:
        red.rename(index, next(names))
        return b"ready -> eth0" in running.stdout

    until(prints)
    red.rename(index, b"eth0")
    # The daemon handles many renames late, and merges them with what comes then.
    until(lambda: running.stdout.endswith(b'-> eth0"}\n'), lambda: f"{running!r}")
    return running


def state_of(lab: Lab) -> str:
    """Return the present state file."""
    return (lab.directory / "run" / "state.json").read_text()


def test_any_name_that_linux_accepts(lab: Lab) -> None:
    daemon = lab.daemon(CABLE)
    red = lab["red"]
    index = red.links()["eth0"].index
    client = Client(str(control_socket(lab)))
    monitor = monitoring(lab, index)
    before = "eth0"

    def rename(name: bytes) -> str:
        nonlocal before
        position = len(monitor.stdout)  # the same change may have been printed before
        red.rename(index, name)
        after = printable(name)
        detail, before = f"{before} -> {after}", after
        if not detail.startswith(f"{after} "):
            expected = json.dumps(detail).encode()
            until(lambda: expected in monitor.stdout[position:], lambda: f"{detail}: {monitor!r}")
        return after

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(NAMES)
    @example(HOSTILE)
    @example(SHOWN.encode()[:15])
    @example(b"\\x5cx1b")
    @example(b'"\\')
    @example(b"'")
    @example(b"-h")
    @example("büro".encode())
    @example("\u202e\u05d0".encode())
    def any_name(name: bytes) -> None:
        shown = rename(name)
        assert {each.device: each.name for each in client.interfaces()}["epair0a"] == shown
        assert [each.name for each in client.interface("epair0a")] == [shown]
        assert daemon.metrics().interface("epair0a").name == shown
        saved = client.configuration()
        assert tomllib.loads(saved)["epair"]["epair0"]["a"]["name"] == shown
        assert not client.plan(saved, "saved.toml").actions
        until(lambda: json.loads(state_of(lab))["pairs"][0]["halves"][0]["device"]["place"]["name"] == shown)

    any_name()
    rename(b"eth0")
    assert_log_prints(daemon)
    assert daemon.get("/healthz")[0] == 200


def test_what_epairctl_prints(lab: Lab) -> None:
    daemon = lab.daemon(CABLE)
    lab["red"].rename(lab["red"].links()["eth0"].index, HOSTILE)
    until(lambda: SHOWN in epairctl(lab, "list"))
    commands = (
        ["list"],
        ["-br", "list"],
        ["-o", "show", "epair0a"],
        ["show", "epair0a"],
        ["save"],
        ["stats"],
    )
    for command in (*commands, ["-j", "list"], ["-j", "show", "epair0a"]):
        output = epairctl(lab, *command)
        assert all(line.isprintable() for line in output.splitlines()), output
        if "stats" not in command:
            assert (json.dumps(SHOWN)[1:-1] if {"-j", "save"} & set(command) else SHOWN) in output
    saved = lab.directory / "saved.toml"
    saved.write_text(epairctl(lab, "save"))
    assert "Nothing to do" in epairctl(lab, "plan", str(saved))
    in_ascii = os.environ | {"PYTHONIOENCODING": "ascii"}
    lab["red"].rename(lab["red"].links()[SHOWN].index, "büro".encode())
    until(lambda: "büro" in epairctl(lab, "list"))
    command = [EPAIRCTL, "--socket", str(control_socket(lab)), "list"]
    assert rb"b\xc3\xbcro" in subprocess.run(command, env=in_ascii, capture_output=True, check=True).stdout
    assert_log_prints(daemon)


def kill_and_restart(cable: Cable) -> None:
    """Kill the control plane and start it again."""
    cable.daemon.crash()
    cable.restart()


def upgrade(cable: Cable) -> None:
    """Upgrade the daemon as a user does."""
    cable.ctl("upgrade")
    cable.daemon.wait_for_log("upgraded to epaird")


@pytest.mark.parametrize("how", [kill_and_restart, upgrade])
def test_a_successor_adopts_a_device_of_any_name(lab: Lab, how: Callable[[Cable], None]) -> None:
    cable = Cable(lab)
    index = cable.red.links()["eth0"].index
    cable.red.rename(index, HOSTILE)
    until(lambda: json.dumps(SHOWN) in state_of(lab))
    page = cable.page()
    with cable.stream() as stream:
        cable.wait_for_frames()
        how(cable)
        cable.wait_for_frames()
        row = cable.record(f"{how.__name__}: a hostile name", 20_000, page, stream)
    assert row.outcome.lost == 0
    assert cable.red.links()[SHOWN].index == index
    assert cable.page().interface("epair0a").name == SHOWN
    assert not cable.daemon.log_lines_with(" renamed from ")[1 if how is upgrade else 0 :]
    cable.red.rename(index, b"eth0")
    until(lambda: cable.page().interface("epair0a").name == "eth0")
    assert_log_prints(cable.daemon)


def test_a_file_of_an_older_version_has_the_name_as_the_kernel_has_it(lab: Lab) -> None:
    """epaird 0.3.0 wrote names that are UTF-8 as they are."""
    cable = Cable(lab)
    index = cable.red.links()["eth0"].index
    cable.red.rename(index, b"e\x1b\\x1b")
    until(lambda: json.dumps("e\\x1b\\x5cx1b") in state_of(lab))
    cable.daemon.crash()
    file = lab.directory / "run" / "state.json"
    file.write_text(file.read_text().replace(json.dumps("e\\x1b\\x5cx1b"), json.dumps("e\x1bx")))
    cable.restart()
    assert cable.page().interface("epair0a").name == "e\\x1b\\x5cx1b"
    cable.assert_forwards()


def test_an_upgrade_and_a_reload_give_the_configured_name_again(lab: Lab) -> None:
    daemon = lab.daemon(CABLE)
    red = lab["red"]
    red.rename(red.links()["eth0"].index, HOSTILE)
    until(lambda: SHOWN in epairctl(lab, "list"))
    daemon.signal(signal.SIGUSR2)
    daemon.wait_for_log("upgraded to epaird")
    assert "Nothing to do" in epairctl(lab, "reload")  # an owner may rename its device
    rewrite(daemon, CABLE.replace('"eth0"', '"wan0"', 1))
    assert f"a.name: {SHOWN} -> wan0" in epairctl(lab, "reload") or "wan0" in red.links()
    assert "wan0" in red.links()
    epairctl(lab, "set", "epair0a", "name=eth0")
    assert "eth0" in red.links()
    assert_log_prints(daemon)


def test_a_name_of_the_configuration_is_in_the_printable_form(lab: Lab) -> None:
    daemon = lab.daemon(CABLE.replace('"eth0"', json.dumps(SHOWN), 1) + pair(1, a={"queues": None}, queues=2))
    red = lab["red"]
    assert SHOWN in red.links()
    assert "Nothing to do" in epairctl(lab, "reload")
    many = json.dumps("e\\xfe")
    reload(
        daemon,
        CABLE
        + pair(1, a={"name": "e\\xfe"}, queues=2)
        + f"[epair.epair2]\nqueues = 2\na = {{ name = {many} }}\n",
    )
    assert {"eth0", "e\\xfe"} <= red.links().keys()
    assert "e\\xfe" in lab.home.links()
    assert "Nothing to do" in epairctl(lab, "reload")
    assert epairctl(lab, "create", "epair7", "a.netns=$red", "a.name=e\\xfd") == "epair7a\n"
    assert "e\\xfd" in red.links()
    error = refused(lab, "create", "epair8", "a.netns=$red", "a.name=e\\xfd")
    assert "cannot be e\\xfd in namespace" in error
    assert "a device of this name exists already" in error
    assert_log_prints(daemon)


def test_a_device_is_addressed_by_its_printable_name(lab: Lab) -> None:
    daemon = lab.daemon("[epair.epair0]\n[epair.epair1]\n")
    links = lab.home.links()
    lab.home.rename(links["epair0a"].index, b"e\xff")
    lab.home.rename(links["epair1a"].index, b"e\\xff")  # what the other's printable form is
    until(lambda: "e\\x5cxff" in epairctl(lab, "list"))
    for name, device in (("e\\xff", "epair0a"), ("e\\x5cxff", "epair1a")):
        assert epairctl(lab, "show", name).startswith(f"{device}: ")
        epairctl(lab, "set", name, "mtu=1400")
        assert lab.home.links()[name].mtu == 1400
        epairctl(lab, "unpatch", name)
    raw = [os.fsencode(EPAIRCTL), b"--socket", os.fsencode(control_socket(lab)), b"show", b"e\xff"]
    assert subprocess.run(raw, capture_output=True, check=True).stdout.startswith(b"epair0a: ")
    epairctl(lab, "patch", "e\\xff", "e\\x5cxff")
    assert "peer epair1a" in epairctl(lab, "show", "epair0a")
    assert refused(lab, "show", "e\\xfe") == 'there is no interface "e\\xfe" (ENXIO)'
    assert refused(lab, "show", "e\x1b[31m") == 'there is no interface "e\\x1b[31m" (ENXIO)'
    epairctl(lab, "destroy", "e\\xff")
    assert "e\\xff" not in lab.home.links()
    assert_log_prints(daemon)


def test_a_name_that_no_configuration_can_give(lab: Lab) -> None:
    daemon = lab.daemon(CABLE)
    red = lab["red"]
    links = red.links()
    red.rename(links["lo"].index, b"lo2")
    red.rename(links["eth0"].index, b"lo")
    until(lambda: "lo" in [each.name for each in Client(str(control_socket(lab))).interfaces()])
    saved = lab.directory / "saved.toml"
    saved.write_text(epairctl(lab, "save"))
    assert "# epair0a: its present name is left out: " in saved.read_text()
    assert "Nothing to do" in epairctl(lab, "plan", str(saved))
    daemon.crash()
    daemon = lab.restart(daemon).wait_ready()
    assert daemon.metrics().interface("epair0a").name == "lo"
    red.rename(links["eth0"].index, b"eth0")
    red.rename(links["lo"].index, b"lo")


@pytest.fixture
def hostile_namespace(lab: Lab) -> Iterator[bytes]:
    """Create a namespace whose name is not UTF-8 and holds a control character and a space."""
    name = os.fsencode(lab.expand("$red")) + b"\xff\x1b \\x1b"
    subprocess.run([b"ip", b"netns", b"add", name], check=True)
    yield name
    subprocess.run([b"ip", b"netns", b"del", name], check=False)


def test_a_namespace_of_any_name(lab: Lab, hostile_namespace: bytes) -> None:
    daemon = lab.daemon("[epair.epair0]\n[epair.epair1]\n")
    shown = printable(hostile_namespace)
    assert shown == lab.expand("$red") + "\\xff\\x1b\\x20\\x5cx1b"
    with lab.home.inside():
        subprocess.run([b"ip", b"link", b"set", b"epair0a", b"netns", hostile_namespace], check=True)
    until(lambda: shown in epairctl(lab, "list"))
    assert daemon.metrics().interface("epair0a").netns == shown
    assert [each["device"] for each in json.loads(epairctl(lab, "-j", "list", "-n", shown))] == ["epair0a"]
    saved = lab.directory / "saved.toml"
    saved.write_text(epairctl(lab, "save"))
    assert "Nothing to do" in epairctl(lab, "plan", str(saved))
    epairctl(lab, "create", "epair2", f"a.netns={shown}", f"b.netns=/run/netns/{shown}", "b.name=eth0")
    assert [each["netns"] for each in json.loads(epairctl(lab, "-j", "show", "epair2"))] == [
        shown, f"/run/netns/{shown}",
    ]  # fmt: skip
    epairctl(lab, "destroy", "epair2")
    daemon.crash()
    daemon = lab.restart(daemon).wait_ready()
    assert daemon.metrics().interface("epair0a").netns == shown
    made = json.dumps(f"{shown}2")
    reload(daemon, f"[namespaces]\ncreate = [{made}]\n[epair.epair1]\na.netns = {made}\n")
    assert Path(os.fsdecode(b"/run/netns/" + hostile_namespace + b"2")).exists()
    assert_log_prints(daemon)


def test_texts_of_clients_cannot_control_a_terminal(lab: Lab) -> None:
    daemon = lab.daemon(CABLE, log_level="debug")
    evil = "\x1b[31m\u202e\x85"
    for arguments in (
        ("show", evil),
        ("set", "epair0a", f"{evil}=1"),
        ("set", "epair0a", f"name={evil}"),
        ("create", evil),
        ("create", "epair", f"a.netns={evil}"),
        ("patch", "epair0a", evil),
        ("destroy", evil),
        ("list", evil),
    ):
        done = run_epairctl(lab, *arguments)
        assert done.returncode == 1, arguments
        assert all(line.isprintable() for line in done.stderr.splitlines()), done
    evil_file = lab.directory / f"{evil}.toml"
    evil_file.write_text(f'["{evil.encode().hex()}"]\n"\x1b" = 1')
    done = run_epairctl(lab, "plan", str(evil_file))
    assert done.returncode == 1
    assert all(line.isprintable() for line in done.stderr.splitlines()), done
    assert_log_prints(daemon)
