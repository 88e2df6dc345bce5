from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from epaird.config.reading import Configuration, InvalidConfiguration, load, parse, remarks
from epaird.config.settings import (
    DaemonSettings,
    HalfSettings,
    LoopbackSettings,
    MetricsSettings,
    NamespacesSettings,
    PairSettings,
    RouteSettings,
)

SAMPLE = Path(__file__).parents[2] / "config" / "epaird.toml"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "epaird.toml"


def problems(text: str) -> list[str]:
    with pytest.raises(InvalidConfiguration) as caught:
        parse(tomllib.loads(text))
    return list(caught.value.problems)


def syntax_problem(file: Path, content: bytes) -> str:
    file.write_bytes(content)
    with pytest.raises(InvalidConfiguration) as caught:
        load(file)
    (problem,) = caught.value.problems
    assert problem.startswith(str(file))
    return problem.removeprefix(str(file))


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
    # What is commented out and has a default shows it.
    left_out = parse(tomllib.loads(text))
    with_all = parse(tomllib.loads(shown))
    assert with_all.daemon == left_out.daemon == DaemonSettings()
    assert with_all.metrics == left_out.metrics == MetricsSettings()
    shared = {"a", "b"}
    assert with_all.epair["epair0"].model_dump(exclude=shared) == PairSettings().model_dump(exclude=shared)
    loopback = with_all.loopbacks[1].settings
    examples = {"netns": None, "name": None, "addresses": ()}
    assert loopback.model_copy(update=examples) == LoopbackSettings()
    assert left_out.loopbacks == ()
    a, b = left_out.epair["epair0"].a, with_all.epair["epair0"].a
    assert b.model_copy(update={"mac": None, "sndbuf": None, "routes": (), "peer": None}) == a


def test_a_pair_needs_nothing_but_its_name() -> None:
    configuration = parse(tomllib.loads("[epair.epair0]"))
    assert configuration.epair["epair0"] == PairSettings()
    assert [half.namespace for half in configuration.halves] == ["", ""]


def test_an_empty_file_is_valid() -> None:
    assert parse({}) == Configuration()


def test_every_problem_is_told_at_once() -> None:
    text = """
        colour = "red"
        [epair0]
        [metric]
        [daemon]
        workers = 0
        listen = "x"
        [namespaces]
        create = ["red", "a b", "red"]
        [epair]
        foo = 1
        [epair.epair0]
        queues = 300
        mtu = 9000
        [epair.epair0.a]
        mtu = 70000
        mtuu = 3
        addresses = ["10.0.0.1/24", "10.0.0.300/24", "10.0.0.1/24"]
        routes = [{ to = "default" }, "x", { to = "fd01::/64", via = "10.0.0.2", metric = 3 }]
        namespace = "red"
        [epair.epair0.b]
        name = "eth9"
        mtu = "1500"
        [epair.epair1]
        a = 3
        b = { name = "eth9" }
        [epair.epair07]
        [epair.epair2.c]
        """
    assert problems(text) == [
        "daemon.workers: 0 is less than 1, the least allowed",
        "daemon.listen: unknown key here, it belongs to [metrics]",
        'namespaces.create[1]: "a b" has white space in it',
        'epair.foo: "foo" is not a pair\'s name: that is epair and a number, as in "epair0"',
        "epair.epair0.queues: 300 is more than a TAP's 256 queues",
        "epair.epair0.a.mtu: 70000 is more than a TAP's 65521",
        'epair.epair0.a.addresses[1]: "10.0.0.300/24" is not an address with its prefix length, '
        'as in "10.0.0.1/24" or "fd00::1/64"',
        "epair.epair0.a.routes[0].via: missing, it is the address of the next hop",
        'epair.epair0.a.routes[1]: "x" is not a table, write { to = "default", via = "10.0.0.2" }',
        "epair.epair0.a.routes[2].metric: unknown key, the keys here are to and via",
        "epair.epair0.a.mtuu: unknown key, did you mean mtu?",
        "epair.epair0.a.namespace: unknown key, did you mean netns?",
        'epair.epair0.b.mtu: "1500" is text, leave the quotes out',
        "epair.epair0.mtu: unknown key here, it belongs to a half, [epair.epair0.a]",
        "epair.epair1.a: 3 is not a table, write [epair.epair1.a]",
        'epair.epair07: "epair07" has a leading zero, write "epair7"',
        "epair.epair2.c: unknown key, the keys here are queues, offload, coalesce, carrier, a and b",
        "colour: unknown key, the keys here are daemon, metrics, namespaces, epair and lo",
        "epair0: unknown key, a pair is written [epair.epair0]",
        "metric: unknown key, did you mean metrics?",
        'namespaces.create[2]: "red" stands here twice',
        'epair.epair1.b.name: "eth9": epair.epair0.b has this name in the daemon\'s own namespace already',
        "epair.epair0.a.addresses[2]: 10.0.0.1 stands here twice",
        "epair.epair0.a.routes[2].via: 10.0.0.2 is an IPv4 address, fd01::/64 needs an IPv6 one",
    ]


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
def test_what_follows_from_a_refused_value_is_not_told(text: str, problem: str) -> None:
    (only,) = problems(text)
    assert re.search(problem, only)


def test_keys_that_are_called_something_else_elsewhere() -> None:
    text = (
        '[epair.epair3]\nqueue = 2\na = { hwaddr = "x", gateway = "y", adresses = [], MTU = 3, queues = 2 }'
    )
    assert problems(text) == [
        "epair.epair3.a.hwaddr: unknown key, did you mean mac?",
        "epair.epair3.a.gateway: unknown key, the keys here are "
        "netns, name, mac, mtu, up, txqueuelen, sndbuf, addresses, routes and peer",
        "epair.epair3.a.adresses: unknown key, did you mean addresses?",
        "epair.epair3.a.MTU: unknown key, did you mean mtu?",
        "epair.epair3.a.queues: unknown key here, it belongs to a pair, [epair.epair3]",
        "epair.epair3.queue: unknown key, did you mean queues?",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("epair = 3", "epair: 3 is not a table, write [epair.epair0]"),
        ("[[epair]]", "epair: a list is not a table, write [epair.epair0]"),
        ("[[epair.epair0.a]]", "epair.epair0.a: a list is not a table, write [epair.epair0.a]"),
        ("daemon = 2026-01-02", "daemon: the date or time 2026-01-02 is not a table, write [daemon]"),
    ],
)
def test_tables_are_tables(text: str, problem: str) -> None:
    assert problems(text) == [problem]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            b"[daemon]\nworkers = auto\n",
            ', line 2, column 11: "auto" is not a value: '
            "text stands in quotes, true and false are in lower case",
        ),
        (
            b"addresses = [10.0.0.1/24]",
            ', line 1, column 18: ".0.1/24]" cannot stand in the list: '
            "its members are separated by commas, text stands in quotes, ] ends it",
        ),
        (
            b"mac = 02:5d\r\n",
            ', line 1, column 8: "2:5d" cannot follow what stands before it: '
            "text stands in quotes, each key has a line of its own",
        ),
        (
            b'a = {to = "x" via = "y"}',
            ', line 1, column 15: "via = \\"y\\"}" cannot stand in the table: '
            "its keys are separated by commas, text stands in quotes, } ends it",
        ),
        (b"mtu =\n", ", line 1, column 6: a value is missing"),
        (b"a: 3\n", ', line 1, column 2: ": 3" stands where the = after a key should'),
        (b"!\n", ', line 1, column 1: "!" is not a key, a [table] or a # comment'),
        (b'a = "x\n', ", line 1, column 7: the text is not closed by a quote"),
        (b'a = "x', ", line 1, column 7: the text is not closed by a quote"),
        (b"[epair.epair0\n", ", line 1, column 14: the table's name is not closed by ]"),
        (b"[epair.epair0]\n[epair.epair0]\n", ", line 2, column 14: [epair.epair0] stands here twice"),
        (b"a = 1\na = 2\n", ", line 2, column 6: this key is set twice"),
        (b"a = 1\n\n\xff", ", line 3: not UTF-8 text"),
        (b"a = " + b"[" * 10_000, ": lists or tables nested too deep"),
        (b"a = " + b"1" * 10_000, ": a number has too many digits"),
    ],
)
def test_broken_toml_is_one_line_with_its_place(file: Path, content: bytes, problem: str) -> None:
    assert syntax_problem(file, content) == problem


def test_a_byte_order_mark_does_not_matter(file: Path) -> None:
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
ROUTES = st.dictionaries(st.sampled_from(["to", "via", "dev"]), LEAVES, max_size=3)
HALF_TABLES = st.dictionaries(KEYS, LEAVES | st.lists(LEAVES | ROUTES, max_size=4), max_size=6)
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
def test_any_document_is_taken_or_refused_in_our_words(document: dict[str, Any]) -> None:
    told: tuple[str, ...] = ()
    try:
        configuration = parse(document)
    except InvalidConfiguration as error:
        told = error.problems or ("no problem is told",)
    else:
        assert parse(configuration.model_dump(exclude_none=True)) == configuration
    assert len(set(told)) == len(told)
    for problem in told:
        assert problem.isprintable()
        assert re.match(r"\S.*?: \S", problem)
        assert not re.search(r"Input|Value error|Extra inputs|pydantic|should be|NoneType", problem)


@given(st.text() | st.binary())
def test_any_file_is_taken_or_refused(tmp_path_factory: pytest.TempPathFactory, content: str | bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    told: tuple[str, ...] = ()
    try:
        load(file)
    except InvalidConfiguration as error:
        told = error.problems
    assert all(problem.isprintable() for problem in told)
