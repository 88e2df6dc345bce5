from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from epaird.ctl.settings import NotASetting, settings, value


@pytest.mark.parametrize(
    ("words", "made"),
    [
        ([], {}),
        (["mtu=9000", "up=false"], {"mtu": 9000, "up": False}),
        (["a.netns=red", "a.mtu=1", "b.up=true"], {"a": {"netns": "red", "mtu": 1}, "b": {"up": True}}),
        (['a={netns="red"}', "a.mtu=1"], {"a": {"netns": "red", "mtu": 1}}),
        (['addresses=["10.0.0.1/24"]'], {"addresses": ["10.0.0.1/24"]}),
        (['name="7"', "netns=/proc/1/ns/net"], {"name": "7", "netns": "/proc/1/ns/net"}),
        (["carrier=off", "mac=02:5d:11:22:33:0a"], {"carrier": "off", "mac": "02:5d:11:22:33:0a"}),
        (["x="], {"x": ""}),
        (["x=a=b"], {"x": "a=b"}),
        (["x=2024-01-01", "y=1.5", "z=[2024-01-01]"], {"x": "2024-01-01", "y": "1.5", "z": "[2024-01-01]"}),
        (["x=nan", "y=[nan]", "z=1\ny=2"], {"x": "nan", "y": "[nan]", "z": "1\ny=2"}),
    ],
)
def test_words_are_a_table(words: list[str], made: dict[str, object]) -> None:
    assert settings(words) == made


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["mtu"], "'mtu' is not a setting, as in mtu=9000 or a.netns=red"),
        (["=1"], "'=1' is not a setting, as in mtu=9000 or a.netns=red"),
        (["a.=1"], "'a.=1' is not a setting, as in mtu=9000 or a.netns=red"),
        (["mtu=1", "mtu=2"], "mtu is given twice"),
        (["a=1", "a.mtu=2"], "a.mtu cannot be combined with a"),
        (["a.mtu=2", "a=1"], "a is given twice"),
    ],
)
def test_a_word_that_is_not_a_setting_is_an_error(words: list[str], line: str) -> None:
    with pytest.raises(NotASetting) as caught:
        settings(words)
    assert str(caught.value) == line


@given(st.text())
def test_every_value_can_be_json(text: str) -> None:
    json.dumps(value(text), allow_nan=False)


def test_what_is_nested_too_deep_is_no_table() -> None:
    deep = "[" * 100_000
    assert value(deep) == deep
    dotted = "{" + ".".join("a" * 60_000) + "=1}"
    assert value(dotted) == dotted
    assert settings(["a." * 15 + "b=1"])
    with pytest.raises(NotASetting) as caught:
        settings(["a." * 60_000 + "b=1"])
    line = f"{'a.' * 20}...: tables are nested deeper than 16 levels, the most allowed"
    assert str(caught.value) == line
