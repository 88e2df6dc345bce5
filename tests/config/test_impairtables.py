from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.config.impairtables import ImpairSettings
from epaird.config.reading import decode, parse
from epaird.config.saving import text
from epaird.impairment.units import duration, percentage, rate, size
from epaird.ipc.impairment import PHASES_MAX
from tests.config.test_reading import problems

SHARE = st.integers(0, 9_999).map(lambda number: percentage(number / 10_000))
TIME = st.integers(0, 60 * 10**9).map(duration)
LOSS = SHARE | st.fixed_dictionaries({"p": SHARE}, optional={"r": SHARE, "bad": SHARE, "good": SHARE})
LINE: dict[str, st.SearchStrategy[Any]] = {
    "delay": TIME,
    "jitter": TIME,
    "jitter_correlation": SHARE,
    "distribution": st.sampled_from(["uniform", "normal", "pareto", "paretonormal"]),
    "loss": LOSS,
    "loss_correlation": SHARE,
    "loss_burst": st.integers(1, 1000) | st.floats(1, 1000),
    "duplicate": SHARE,
    "corrupt": SHARE,
    "ber": st.floats(0, 0.5),
    "reorder": SHARE,
    "rate": st.integers(1000, 10**12).map(rate),
    "limit": st.integers(0, 1 << 36).map(size) | st.integers(0, 1000).map(lambda number: f"{number}p"),
    "queue": st.sampled_from(["droptail", "codel"]),
    "ecn": st.booleans(),
}
PERIOD = st.integers(10**6, 10**12).map(duration)
PHASE = st.fixed_dictionaries({}, optional={**LINE, "at": TIME, "for": PERIOD, "every": PERIOD})
TABLES = st.fixed_dictionaries(
    {},
    optional={
        **LINE,
        "trace": st.sampled_from(["", "lte.up", "/srv/lte"]),
        "buffer": st.integers(1 << 20, 1 << 36).map(size),
        "seed": st.integers(0, 2**64 - 1),
        "schedule": st.lists(PHASE, max_size=3),
        "preset": st.sampled_from(["", "geo"]),
    },
)


@given(TABLES)
def test_a_canonical_table_is_read_back_unchanged(table: dict[str, Any]) -> None:
    settings = ImpairSettings.model_validate(table)
    given_keys = settings.given()
    assert given_keys == {
        key: int(value) if isinstance(value, float) and value == int(value) else value
        for key, value in table.items()
    }
    assert ImpairSettings.model_validate(given_keys) == settings
    assert ImpairSettings.model_validate_json(settings.model_dump_json()) == settings
    assert ImpairSettings.model_validate(settings.model_dump()) == settings
    assert ImpairSettings.model_validate(json.loads(json.dumps(given_keys))).given() == given_keys
    hash(settings)


@given(
    st.fixed_dictionaries({}, optional={key: LINE[key] for key in ("delay", "ber", "corrupt", "duplicate")})
)
def test_a_saved_table_is_read_back_unchanged(table: dict[str, Any]) -> None:
    document = {
        "epair": {"epair0": {"impair": table, "a": {"impair": table | {"schedule": [{"loss": "1%"}]}}}},
        "impairment": {"lte": {"loss": {"p": "1%"}, "trace": "x"}, "none": {}},
    }
    configuration = parse(document)
    written = text(configuration)
    assert decode(written.encode(), "saved.toml") == configuration
    saved = tomllib.loads(written)
    assert saved["epair"]["epair0"].get("impair", {}) == configuration.epair["epair0"].impair.given()
    assert parse(json.loads(configuration.model_dump_json())) == configuration


def test_equal_values_are_equal_settings() -> None:
    one = ImpairSettings.model_validate(
        {"delay": "0.1s", "rate": "1000kbit", "limit": "64KB", "loss": "1.0%"}
    )
    other = ImpairSettings.model_validate({"delay": "100ms", "rate": "1mbit", "limit": "64kb", "loss": "1%"})
    assert one == other


WRONG = """
[impairment."a b"]
[impairment.x]
preset = "geo"
loss_burst = 0.5
schedule = [{ at = "1", for = "1us", every = 3, loss = "1", carrier = "off" }, 3]
[epair.epair0]
rate = "1mbit"
schedule = [{ for = "1s" }, { carrier = "on" }, { carrier = "off", loss = "1%" }, 3]
[epair.epair0.impair]
delay = 100
loss = { r = "1%", bad = 1, q = "1%" }
latency = "1ms"
mtu = 3
ber = "1%"
[epair.epair0.a.impair]
distribution = "gauss"
loss = true
queue = "red"
ecn = "yes"
trace = 3
seed = -1
schedule = "x"
preset = "a b"
buffer = "1kb"
jitter_correlation = "100%"
limit = 64
"""
REFUSALS = [
    'epair.epair0.schedule[0].carrier: missing, it is "off"',
    'epair.epair0.schedule[1].carrier: "on" is not "off", the only value here',
    "epair.epair0.schedule[2].loss: unknown key here, it belongs to an impairment, [epair.epair0.impair]",
    'epair.epair0.schedule[3]: 3 is not a table, write { every = "60s", for = "1s", carrier = "off" }',
    'epair.epair0.impair.delay: 100 has no unit, as in "100ms"',
    "epair.epair0.impair.loss.p: missing, it is the probability of the bad state after the good one, "
    'as in "1%"',
    'epair.epair0.impair.loss.bad: 1 has no unit, write "1%" for percent, or "100%" for the fraction',
    "epair.epair0.impair.loss.q: unknown key, the keys here are p, r, bad and good",
    'epair.epair0.impair.ber: "1%" is not a number from 0 to 0.5, as in 1e-9',
    "epair.epair0.impair.latency: unknown key, did you mean delay?",
    "epair.epair0.impair.mtu: unknown key here, it belongs to a half, [epair.epair0.a]",
    'epair.epair0.a.impair.jitter_correlation: "100%" is not less than 100%',
    'epair.epair0.a.impair.distribution: "gauss" is not uniform, normal, pareto or paretonormal',
    'epair.epair0.a.impair.loss: true is not a percentage, as in "1%", or a table, '
    'as in { p = "1%", r = "30%" }',
    'epair.epair0.a.impair.limit: 64 has no unit, as in "64kb", or "64p" for packets',
    'epair.epair0.a.impair.queue: "red" is not droptail or codel',
    'epair.epair0.a.impair.ecn: "yes" is not true or false',
    'epair.epair0.a.impair.trace: 3 is not the path of a file, as in "lte.up", or "" for none',
    'epair.epair0.a.impair.buffer: "1kb" is less than 1mb, the least allowed',
    "epair.epair0.a.impair.seed: -1 is less than 0, the least allowed",
    'epair.epair0.a.impair.schedule: "x" is not a list, as in [{ at = "10s", for = "2s", loss = "100%" }]',
    'epair.epair0.a.impair.preset: "a b" is not a set\'s name: letters, digits, - and _, at most 60',
    "epair.epair0.rate: unknown key here, it belongs to an impairment, [epair.epair0.impair]",
    'impairment."a b": "a b" is not a set\'s name: letters, digits, - and _, at most 60',
    "impairment.x.loss_burst: 0.5 is not a number from 1 to 1000000, as in 3",
    'impairment.x.schedule[0].loss: "1" has no unit, write "1%" for percent, or "100%" for the fraction',
    'impairment.x.schedule[0].at: "1" has no unit, as in "1s"',
    'impairment.x.schedule[0].for: "1us" is less than 1ms, the least allowed',
    'impairment.x.schedule[0].every: 3 has no unit, as in "3s"',
    "impairment.x.schedule[0].carrier: unknown key here, it belongs to a pair, [epair.epair0]",
    'impairment.x.schedule[1]: 3 is not a table, write { at = "10s", for = "2s", loss = "100%" }',
    "impairment.x.preset: unknown key here, it belongs to an impairment, [epair.epair0.impair]",
]


def test_every_key_is_refused_in_its_own_words() -> None:
    assert problems(WRONG) == REFUSALS


@pytest.mark.parametrize("where", ["impairment.x", "epair.epair0.a.impair"])
def test_a_schedule_has_a_bounded_length(where: str) -> None:
    phases = ", ".join(['{ loss = "1%" }'] * (PHASES_MAX + 1))
    (line,) = problems(f"[{where}]\nschedule = [{phases}]")
    assert line == f"{where}.schedule: has {PHASES_MAX + 1} entries, at most {PHASES_MAX} are allowed"
