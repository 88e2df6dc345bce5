from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.config.impairtables import ImpairSettings
from epaird.impairment import netem
from epaird.impairment.netem import NotAnImpairment
from epaird.impairment.words import ALSO_CALLED, KEYS, translated

UNIT = "not a key: write a value and its unit without a space, as in delay 100ms"
VALUE = "not a key: a value follows the key that it is for, as in delay 100ms"


def test_the_keys_are_those_of_the_configuration() -> None:
    assert set(KEYS) == set(ImpairSettings.model_fields)


@pytest.mark.parametrize(
    ("words", "patch"),
    [
        ("delay 100ms", {"delay": "100ms"}),
        ("delay=100ms jitter=10ms", {"delay": "100ms", "jitter": "10ms"}),
        ("jitter 10ms jitter_correlation 25%", {"jitter": "10ms", "jitter_correlation": "25%"}),
        ("delay off", {"delay": None}),
        ("delay=", {"delay": None}),
        ("loss none seed 7", {"loss": None, "seed": 7}),
        ("seed=7", {"seed": 7}),
        ("ecn true queue codel", {"ecn": True, "queue": "codel"}),
        ("ecn=false", {"ecn": False}),
        ("ber 1e-9 loss_burst 3", {"ber": "1e-9", "loss_burst": "3"}),
        ("limit 64kb", {"limit": "64kb"}),
        ("preset lte buffer 64MB trace lte.up", {"preset": "lte", "buffer": "64MB", "trace": "lte.up"}),
        ("loss={p='1%',r='30%'}", {"loss": {"p": "1%", "r": "30%"}}),
        ("loss {p='1%'}", {"loss": {"p": "1%"}}),
        ("schedule=[{at='1s',loss='100%'}]", {"schedule": [{"at": "1s", "loss": "100%"}]}),
        ("latency 3ms drop 1%", {"delay": "3ms", "loss": "1%"}),
        ("", {}),
    ],
)
def test_own_keys(words: str, patch: dict[str, Any]) -> None:
    assert translated(words.split()).patch == patch


@pytest.mark.parametrize(
    ("present", "words", "patch"),
    [
        ({"trace": "x"}, "rate=1mbit", {"rate": "1mbit", "trace": None}),
        ({"rate": "1mbit"}, "trace=x", {"trace": "x", "rate": None}),
        ({"loss_burst": 3}, "loss 1% 25%", {"loss": "1%", "loss_correlation": "25%", "loss_burst": None}),
        ({"loss": "1%", "loss_burst": 3}, "loss gemodel 1%", {"loss": {"p": "1%"}, "loss_burst": None}),
        ({"loss": "1%", "loss_burst": 3}, "loss 2%", {"loss": "2%"}),
        ({"rate": "1mbit"}, "limit 1000", {"limit": "1000p"}),
        ({"rate": "1mbit"}, "limit 1000 rate off", {"rate": None}),
        ({"distribution": "pareto"}, "delay 1ms 1ms", {"delay": "1ms", "jitter": "1ms"}),
    ],
)
def test_a_key_that_cannot_be_combined_with_a_new_one_is_removed(
    present: dict[str, Any], words: str, patch: dict[str, Any]
) -> None:
    assert translated(words.split(), present).patch == patch


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("delya 3ms", '"delya" is not a key, did you mean delay?'),
        ("x=1", f'"x" is not a key, the keys are {", ".join(KEYS)}'),
        ("gap=1", f'"gap" is not a key, the keys are {", ".join(KEYS)}'),
        ("delay", "delay needs a value after it"),
        ("impair.delay=3ms", '"impair.delay" is not a key, did you mean delay?'),
        ("loss-burst 3", '"loss-burst" is not a key, did you mean loss_burst?'),
        ("bandwidth 3mbit", '"bandwidth" is not a key, did you mean rate?'),
        ("delay 100 ms", "delay: write a value and its unit without a space, 100ms"),
        ("rate 10 Mbit", "rate: write a value and its unit without a space, 10Mbit"),
        ("loss 1 %", "loss: write a value and its unit without a space, 1%"),
        ("jitter 10 ms", f'"ms" is {UNIT}'),
        ("100ms", f'"100ms" is {VALUE}'),
        ("loss 1% 25% 30%", f'"30%" is {VALUE}'),
        ("delay=1ms -1", f'"-1" is {VALUE}'),
        ("delay loss", 'delay needs a value after it, not "loss"'),
        ("jitter", "jitter needs a value after it"),
        ("delay 1ms delay 2ms", "delay is given twice"),
        ("delay 1ms 1ms jitter=3ms", "jitter is given twice"),
        ("loss={p=}", 'loss: "{p=}" is neither a list nor a table of TOML'),
        ("schedule=[{at=1979-05-27}]", 'schedule: "[{at=1979-05-27}]" is neither a list nor a table of TOML'),
        ("schedule=[]\nseed=3", 'schedule: "[]\\nseed=3" is neither a list nor a table of TOML'),
    ],
)
def test_what_is_no_impairment(words: str, message: str) -> None:
    with pytest.raises(NotAnImpairment) as caught:
        translated(words.split(" "))
    assert str(caught.value) == message


def test_other_tools_words_are_words_for_keys() -> None:
    assert set(ALSO_CALLED.values()) <= set(KEYS)
    assert not set(ALSO_CALLED) & set(KEYS)


@given(
    st.lists(
        st.sampled_from(
            [*KEYS, *netem.FORMS, "netem", "=", "gemodel", "state", "1ms", "10%", "3", "{", "[", "off"]
        )
        | st.text()
    )
)
def test_any_words_have_a_meaning_or_are_refused_in_one_line(words: list[str]) -> None:
    try:
        patch, refusal = translated(words).patch, "none"
    except NotAnImpairment as error:
        patch, refusal = {}, str(error)
    assert refusal.isprintable()
    assert patch.keys() <= set(KEYS)
