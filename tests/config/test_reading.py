from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import example, given
from hypothesis import strategies as st

from epaird.config.addressing import RouteSettings
from epaird.config.bounds import MAX_BYTES, TOML, excess
from epaird.config.impairtables import ImpairSettings
from epaird.config.reading import (
    InvalidConfiguration,
    content,
    decode,
    first_lines,
    is_blank,
    load,
    parse,
    quoted_path,
    read,
    remarks,
)
from epaird.config.saving import text as saved
from epaird.config.settings import (
    Configuration,
    DaemonSettings,
    HalfSettings,
    LoopbackSettings,
    MetricsSettings,
    NamespacesSettings,
    PairSettings,
)
from tests.loop import descriptors

SAMPLE = Path(__file__).parents[2] / "config" / "epaird.toml"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "epaird.toml"


def problems(text: str) -> list[str]:
    with pytest.raises(InvalidConfiguration) as caught:
        parse(tomllib.loads(text))
    return list(caught.value.problems)


def test_the_sample_is_valid_and_joins_red_and_blue() -> None:
    configuration = load(SAMPLE)
    assert configuration.namespaces.create == ("red", "blue")
    assert [
        (half.device, half.namespace, half.name, *map(str, half.settings.addresses))
        for half in configuration.halves
    ] == [
        ("epair0a", "red", "eth0", "10.0.0.1/24", "fd00::1/64"),
        ("epair0b", "blue", "eth0", "10.0.0.2/24", "fd00::2/64"),
    ]
    assert remarks(configuration) == ()


def test_the_sample_shows_every_key_with_its_default() -> None:
    text = SAMPLE.read_text()
    shown = re.sub(r"(?m)^#(?=[a-z_]+ = |\[)", "", text)
    assert parse(tomllib.loads(shown)).epair["epair0"].a.routes
    given_keys = tomllib.loads(shown)
    for table, model in (
        (given_keys, Configuration),
        (given_keys["daemon"], DaemonSettings),
        (given_keys["metrics"], MetricsSettings),
        (given_keys["namespaces"], NamespacesSettings),
        (given_keys["epair"]["epair0"], PairSettings),
        (given_keys["epair"]["epair0"]["a"], HalfSettings),
        (given_keys["epair"]["epair0"]["a"]["routes"][0], RouteSettings),
        (given_keys["lo"]["lo1"], LoopbackSettings),
    ):
        assert set(table) == set(model.model_fields)
    impair = given_keys["epair"]["epair0"]["a"]["impair"] | given_keys["epair"]["epair0"]["impair"]
    assert set(impair) | set(given_keys["impairment"]["lte"]) == set(ImpairSettings.model_fields)
    # A key that is commented out shows its default, if it has one.
    left_out = parse(tomllib.loads(text))
    with_all = parse(tomllib.loads(shown))
    assert with_all.daemon == left_out.daemon == DaemonSettings()
    assert with_all.metrics == left_out.metrics == MetricsSettings()
    shared = {"a", "b", "impair", "schedule"}
    assert with_all.epair["epair0"].model_dump(exclude=shared) == PairSettings().model_dump(exclude=shared)
    loopback = with_all.loopbacks[1].settings
    examples = {"netns": None, "name": None, "addresses": ()}
    assert loopback.model_copy(update=examples) == LoopbackSettings()
    assert left_out.loopbacks == ()
    a, b = left_out.epair["epair0"].a, with_all.epair["epair0"].a
    assert (
        b.model_copy(update={"mac": None, "sndbuf": None, "routes": (), "peer": None, "impair": a.impair})
        == a
    )


def test_a_pair_needs_nothing_but_its_name() -> None:
    configuration = parse(tomllib.loads("[epair.epair0]"))
    assert configuration.epair["epair0"] == PairSettings()
    assert [half.namespace for half in configuration.halves] == ["", ""]


def test_an_empty_file_is_valid() -> None:
    assert parse({}) == Configuration()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            '[epair.epair0.a]\naddresses = ["10.0.0./24"]\nroutes = [{ to = "default", via = "10.0.0.2" }]',
            r"addresses\[0\]",
        ),
        ('[epair.epair0.a]\nmtu = 12\naddresses = ["fd00::1/64"]', "mtu: 12 is less than"),
        ('[epair.epair0]\na.name = "eth0"\nb = { name = "eth0", netns = 3 }', "b.netns"),
        ('[epair.epair0]\na = { name = "e", netns = "x y" }\nb = { name = "e", netns = "red" }', "a.netns"),
    ],
)
def test_consequences_of_a_refused_value_are_not_reported(text: str, problem: str) -> None:
    (only,) = problems(text)
    assert re.search(problem, only)


def test_a_byte_order_mark_is_ignored(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf[epair.epair0]\r\n")
    assert list(load(file).epair) == ["epair0"]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none.toml", "no such file or directory"), (tmp_path, "is a directory")):
        with pytest.raises(InvalidConfiguration) as caught:
            load(path)
        assert caught.value.problems == (f"{path}: {reason}",)


KEYS = st.sampled_from(
    sorted(
        {
            *("daemon", "metrics", "namespaces", "epair", "epair0", "epair1", "epair07", "[key]", "mtuu", ""),
            *(key for model in (PairSettings, HalfSettings, RouteSettings) for key in model.model_fields),
            *(
                key
                for model in (DaemonSettings, MetricsSettings, NamespacesSettings)
                for key in model.model_fields
            ),
        }
    )
)
LEAVES = st.sampled_from(
    [
        *(True, 0, 1, 1000, 1500, 70000, 2**70, 1.5, "", "red", "/run/netns/red", "eth0", "default", "auto"),
        *("10.0.0.1/24", "10.0.0.2", "fd00::1/64", "fd00::2", "02:00:00:00:00:0a", "a\nb", [], {}),
    ]
)
MEMBERS = st.dictionaries(
    st.sampled_from(["to", "via", "metric", "address", "peer", "nodad", "dev"]), LEAVES, max_size=4
)
HALF_TABLES = st.dictionaries(KEYS, LEAVES | st.lists(LEAVES | MEMBERS, max_size=4), max_size=6)
PAIR_TABLES = st.dictionaries(KEYS, LEAVES, max_size=2) | st.fixed_dictionaries(
    {}, optional={"a": HALF_TABLES | LEAVES, "b": HALF_TABLES, "queues": LEAVES, "mtu": LEAVES}
)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "daemon": st.dictionaries(KEYS, LEAVES, max_size=3) | LEAVES,
        "metrics": st.dictionaries(KEYS, LEAVES, max_size=3),
        "namespaces": st.fixed_dictionaries({}, optional={"create": st.lists(LEAVES, max_size=4)}),
        "epair": st.dictionaries(KEYS | st.text(max_size=8), PAIR_TABLES | LEAVES, max_size=4) | LEAVES,
    },
) | st.dictionaries(KEYS, LEAVES, max_size=3)


@given(DOCUMENTS)
@example({"epair": {"\x1f": {"mac": True}}})
def test_any_document_is_accepted_or_refused_in_words_of_the_file(document: dict[str, Any]) -> None:
    reported: tuple[str, ...] = ()
    try:
        configuration = parse(document)
    except InvalidConfiguration as error:
        reported = error.problems or ("no problem is reported",)
    else:
        assert parse(configuration.model_dump(exclude_none=True)) == configuration
        assert parse(json.loads(configuration.model_dump_json())) == configuration
        assert decode(saved(configuration).encode(), "saved.toml") == configuration
    assert len(set(reported)) == len(reported)
    for problem in reported:
        assert problem.isprintable()
        assert re.match(r"\S.*?: \S", problem)
        assert not re.search(r"Input|Value error|Extra inputs|pydantic|should be|NoneType", problem)


@given(st.text() | st.binary())
def test_any_file_is_accepted_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: str | bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    reported: tuple[str, ...] = ()
    try:
        load(file)
    except InvalidConfiguration as error:
        reported = error.problems
    assert all(problem.isprintable() for problem in reported)


def test_only_a_regular_file_of_bounded_size_is_read(tmp_path: Path, file: Path) -> None:
    file.write_bytes(bytes(MAX_BYTES))
    assert len(content(file)) == MAX_BYTES
    file.write_bytes(bytes(MAX_BYTES + 1))
    os.mkfifo(tmp_path / "fifo")  # nothing has its other end open
    (tmp_path / "link").symlink_to("fifo")
    for path, problem in (
        (file, "is larger than 8 MiB, the largest file allowed"),
        (tmp_path / "fifo", "is not a regular file"),
        (tmp_path / "link", "is not a regular file"),
        (Path("/dev/zero"), "is not a regular file"),
        (tmp_path, "is a directory"),
        (tmp_path / "none", "no such file or directory"),
    ):
        with pytest.raises(InvalidConfiguration) as refused:
            content(path)
        assert refused.value.problems == (f"{path}: {problem}",)
    with pytest.raises(InvalidConfiguration, match="is not a path"):
        content("\0")


def test_a_file_that_is_leased_is_not_waited_for(file: Path) -> None:
    """The kernel lets an open() wait for the holder of a lease for 45 s."""
    file.write_bytes(b"")
    usual = signal.signal(signal.SIGIO, signal.SIG_IGN)
    with file.open("r+b") as holder:
        fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        with pytest.raises(InvalidConfiguration, match="resource temporarily unavailable"):
            content(file)
    signal.signal(signal.SIGIO, usual)


def test_a_file_is_read_with_its_digest_and_closed(file: Path) -> None:
    file.write_bytes(b"[epair.epair0]\n")
    before = descriptors()
    found = read(file)
    assert descriptors() == before
    assert found.configuration == parse({"epair": {"epair0": {}}})
    assert found.sha256 == hashlib.sha256(b"[epair.epair0]\n").hexdigest()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b" " * (MAX_BYTES + 1), "x.toml: is larger than 8 MiB, the largest file allowed"),
        (b"a = 1\n\n\xff", "x.toml, line 3: not UTF-8 text"),
        (
            b"a = 1\nb = " + b"[" * 17,
            "x.toml, line 2: tables or lists are nested deeper than 16 levels, the most allowed",
        ),
    ],
)
def test_bytes_that_are_not_parsed(text: bytes, problem: str) -> None:
    with pytest.raises(InvalidConfiguration) as refused:
        decode(text, "x.toml")
    assert refused.value.problems == (problem,)


def test_the_text_of_a_refusal_is_every_line_of_it() -> None:
    assert str(InvalidConfiguration(["one", "two"])) == "one\ntwo"


def test_a_path_has_quotes_only_if_it_needs_them() -> None:
    assert [quoted_path(path) for path in ("/a b", "", "a\n")] == ["/a b", '""', '"a\\n"']


@pytest.mark.parametrize("text", [b"", b" \n", b"\r\n\t\f\v", b"\xef\xbb\xbf", b"\xef\xbb\xbf\n"])
def test_a_file_without_a_character_that_prints_is_blank(text: bytes) -> None:
    assert is_blank(text)
    assert not is_blank(text + b"#")


HOSTILE = {
    "a deep key": b".".join([b"a"] * 450_000) + b"=1",
    "deep tables": b"[" + b".".join([b"a"] * 450_000) + b"]",
    "deep lists": b"a = " + b"[" * 900_000,
    "a long number": b"a = " + b"9" * 900_000,
    "many deep keys": b"".join(b"x%d." % number + b"a." * 15 + b"=1\n" for number in range(100_000)),
    "many tables": b"[[a]]\n" * 300_000,
    "a long key": b'"' + b"a" * 900_000 + b'" = 1',
    "many unknown keys": b"".join(b"x%d=1\n" % number for number in range(100_000)),
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_takes_little_memory_and_time(file: Path, text: bytes) -> None:
    """The whole process is bounded: by 512 MB, of which Python and its libraries take a fifth."""
    file.write_bytes(text)
    assert_refused_within(1 << 29, file)


TENTH = TOML.entries // 10
COSTLY = {
    "addresses": b"[epair.epair0.a]\naddresses=["
    + b",".join(b"'fd%02x::%x/64'" % divmod(number, 1 << 16) for number in range(TENTH))
    + b"]",
    "tables": b"".join(b"[x%d]\n" % number for number in range(TENTH)),
    "deep tables": b"".join(b"[x%d" % number + b".a" * 15 + b"]\n" for number in range(TENTH // 16)),
}


@pytest.mark.parametrize("text", COSTLY.values(), ids=COSTLY.keys())
def test_a_file_of_a_tenth_of_the_bounds_takes_a_tenth_of_the_memory(file: Path, text: bytes) -> None:
    """Of 256 MB, Python and its libraries take two fifths."""
    file.write_bytes(text)
    assert_refused_within(1 << 28, file)


def assert_refused_within(memory: int, file: Path) -> None:
    """Check that a file is refused by a process with this much memory, and 30 s of processor time."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CPU, (30, 30))

    done = subprocess.run(
        [sys.executable, "-m", "epaird", "check", str(file)],
        preexec_fn=limit, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr[-1000:]
    assert len(done.stderr) < 50_000
    assert "Traceback" not in done.stderr


def test_of_many_errors_the_first_are_reported_and_the_others_counted() -> None:
    for document, last in (
        ({f"x{number}": 1 for number in range(2000)}, "and 1,900 more errors"),
        ({"epair": {"epair0": {"a": {"addresses": ["10.0.0.1/24"] * 300}}}}, "and 199 more errors"),
        ({f"x{number}": 1 for number in range(100)}, "x99: unknown key"),
    ):
        with pytest.raises(InvalidConfiguration) as refused:
            parse(document)
        problems = refused.value.problems
        assert problems[-1].startswith(last)
        assert len(problems) == 100 + last.startswith("and")


def test_refused_values_and_conflicts_are_bounded_together() -> None:
    addresses = [*["1"] * 60, *["10.0.0.1/24"] * 60]
    with pytest.raises(InvalidConfiguration) as refused:
        parse({"epair": {"epair0": {"a": {"addresses": addresses}}}})
    problems = refused.value.problems
    assert problems[59].startswith("epair.epair0.a.addresses[59]: ")
    assert problems[60] == "epair.epair0.a.addresses[61]: 10.0.0.1 is listed twice"
    assert problems[100:] == ("and 19 more errors",)


def test_ten_thousand_pairs_with_everything_are_within_the_bounds() -> None:
    pairs = {
        f"epair{unit}": {
            side: {
                "netns": f"tenant-{unit}-{side}", "name": "eth0",
                "mac": f"02:5d:{unit >> 8:02x}:{unit & 255:02x}:00:0{side}",
                "mtu": 9000, "txqueuelen": 20_000, "sndbuf": 1 << 20,
                "addresses": [f"10.0.0.{number}/24", f"fd00::{number}/64"],
                "routes": [{"to": "default", "via": "10.0.0.254"}, {"to": "10.9.0.0/16", "via": "10.0.0.9"}],
            }
            for number, side in ((1, "a"), (2, "b"))
        }
        for unit in range(10_000)
    }  # fmt: skip
    text = tomli_w.dumps({"epair": pairs})
    assert len(text) <= MAX_BYTES
    assert excess(text, TOML) is None


def test_a_list_of_errors_is_bounded() -> None:
    lines = [f"error {number}" for number in range(101)]
    assert first_lines(lines[:100]) == lines[:100]
    assert first_lines(lines) == [*lines[:100], "and 1 more errors"]
