"""Many pairs, in namespaces that the daemon creates."""

from __future__ import annotations

import contextlib
import json
from collections import Counter

import pytest

from epaird.kernel import link, namespace
from epaird.kernel.watch import LinkEventKind, LinkWatch
from tests.scenarios.lab import Lab
from tests.scenarios.transfers import ping
from tests.waiting import until

pytestmark = pytest.mark.real

COLOURS = ("red", "blue", "green", "amber")
PAIRS = 200
CREATE = f"[namespaces]\ncreate = {json.dumps([f'${colour}' for colour in COLOURS])}\n"


def ends(number: int) -> tuple[str, str]:
    """Return the namespaces of a pair's halves, such that every two namespaces are connected in both
    directions."""
    step = 1 + number // len(COLOURS) % (len(COLOURS) - 1)
    return COLOURS[number % len(COLOURS)], COLOURS[(number + step) % len(COLOURS)]


def mesh() -> str:
    """Return the configuration of all pairs."""
    text = [CREATE]
    for number in range(PAIRS):
        for side, colour in zip("ab", ends(number), strict=True):
            host = 1 if side == "a" else 2
            text.append(
                f'[epair.epair{number}.{side}]\nnetns = "${colour}"\nname = "p{number}{side}"\n'
                f'mtu = {2000 + number}\naddresses = ["10.9.{number}.{host}/24"]\n'
            )
    return "".join(text)


def test_a_mesh_of_two_hundred(lab: Lab) -> None:
    daemon = lab.daemon(mesh())
    page = daemon.metrics()
    assert len(page.pairs()) == PAIRS
    where = Counter(page.interface(device).netns for device in page.devices())
    assert where == {lab[colour].name: 2 * PAIRS // len(COLOURS) for colour in COLOURS}
    links = {colour: lab[colour].links("tun") for colour in COLOURS}
    for number in range(PAIRS):
        for side, colour in zip("ab", ends(number), strict=True):
            on_page = page.interface(f"epair{number}{side}")
            link = links[colour][on_page.name]
            assert on_page.name == f"p{number}{side}"
            assert (link.up, link.mtu, link.mac) == (True, 2000 + number, on_page.mac)
    workers = Counter(page.interface(device).worker for device in page.devices())
    assert max(workers.values()) - min(workers.values()) <= PAIRS / 4, workers
    for number in range(0, PAIRS, 23):
        ping(lab[ends(number)[0]], f"10.9.{number}.2")
    daemon.at_rest()
    daemon.stop()


def test_a_namespace_made_by_the_daemon_ends_with_its_name(lab: Lab) -> None:
    """The daemon created devices in it, which must not keep it alive: its pairs go, and the others stay."""
    daemon = lab.daemon(mesh())
    green = lab["green"]
    gone = {f"epair{number}" for number in range(PAIRS) if "green" in ends(number)}
    with contextlib.closing(LinkWatch()) as watch:
        with namespace.opened(green.name) as fd:
            nsid = link.namespace_id(fd)
        green.remove()
        until(
            lambda: any(
                each.kind is LinkEventKind.NAMESPACE_GONE and each.nsid == nsid for each in watch.read()
            ),
            daemon.__repr__,
        )
    until(lambda: len(daemon.metrics().pairs()) == PAIRS - len(gone), daemon.__repr__)
    assert not gone & set(daemon.metrics().pairs())
    for name in gone:
        assert len(daemon.log_lines_with(f"{name} is taken down whole")) == 1
    number = next(each for each in range(PAIRS) if "green" not in ends(each))
    ping(lab[ends(number)[0]], f"10.9.{number}.2")
    daemon.at_rest()
    daemon.stop()


def test_a_name_conflict_is_found_before_all_devices_are_created(lab: Lab) -> None:
    """The indices that the kernel has given to devices show how many were created."""
    lab.home.ip("link add epair3a type veth peer name x3")
    before = lab.home.links()["epair3a"].index
    failed = lab.launch("".join(f"[epair.epair{number}]\n" for number in range(1000)))
    failed.assert_clean_exit(1)
    (line,) = failed.log
    assert line.startswith("epair3a: ")
    lab.home.ip("link add probe type veth peer name x4")
    assert lab.home.links()["probe"].index - before < 200
