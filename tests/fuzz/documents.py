"""Documents with the tables and keys of the configuration's models, and values that are right or wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any, Final

from hypothesis import strategies as st

from epaird.config.addressing import AddressSettings, RouteSettings
from epaird.config.settings import (
    Configuration,
    DaemonSettings,
    HalfSettings,
    LoopbackSettings,
    MetricsSettings,
    NamespacesSettings,
    PairSettings,
)
from epaird.config.table import Settings

WHOLE: Final = (0, 1, 2, 67, 68, 1280, 1500, 9000, 65521, 65522, 65535, 65536, 524_289, 2**31, 2**32, -1)
"""Numbers at the limits of the keys, and beside them."""
_IPV4: Final = (
    "10.0.0.1",
    "10.0.0.2",
    "10.0.0.1/24",
    "10.0.0.0/24",
    "10.9.0.1/32",
    "0.0.0.0/0",
    "127.0.0.1/8",
)
_IPV6: Final = (
    "fd00::1/64",
    "fd00::2",
    "fe80::1/64",
    "fe80::2",
    "::/0",
    "::1/128",
    "::ffff:10.0.0.1/96",
    "ff02::1",
)
_NOT: Final = (
    "",
    "10.0.0.256/24",
    "10.0.0.1/33",
    "fe80::1%eth0/64",
    "10.0.0.1/24/24",
    "default",
    "١٠.٠.٠.١/24",
)
_VALUES: Final[Mapping[str, tuple[object, ...]]] = {
    "netns": ("red", "blue", "/run/netns/red", "/proc/1/ns/net", "", "a/b", "..", "-r", "r\x1bd", "\ud800"),
    "name": ("eth0", "eth1", "lo", "epair0a", "all", "a" * 15, "a" * 16, "ä" * 8, "e\u00a0", "\x1b[31m"),
    "mac": ("stable", "02:00:00:00:00:01", "02-00-00-00-00-02", "01:00:00:00:00:01", "0:0:0:0:0:0", ""),
    "peer": ("", "epair0a", "epair0b", "epair1a", "epair1b", "lo1", "epair", "10.0.0.2", "fd00::2"),
    "carrier": ("peer", "always", "off", "on"),
    "mode": ("reflect", "verbatim", "Reflect"),
    "listen": ("", "127.0.0.1:9862", "[::1]:0", ":1", "host:99999", "a b:1", "[::1", "0.0.0.0:0x1"),
    "control_socket": ("/run/epaird/control.sock", "/" + "a" * 107, "x.sock", "/run/", "/run/lock"),
    "log_level": ("debug", "info", "warning", "error", "INFO"),
    "log_format": ("text", "json", "xml"),
    "workers": ("auto", "automatic", *WHOLE),
    "address": (*_IPV4, *_IPV6, *_NOT),
    "to": ("default", *_IPV4, *_IPV6, *_NOT),
    "via": (*_IPV4, *_IPV6, *_NOT),
    "create": (["red"], ["red", "blue"], ["red", "red"], [], "red"),
}  # fmt: skip
"""Values of keys whose type does not suggest any."""
_SCALARS: Final[tuple[object, ...]] = (
    True, False, 0.5, 1e308, math.inf, -0.0, 10**4000, -(2**63), "text", "9", "true", "\0", "\ud800",
    "é" * 100, date(1979, 5, 27), time(7, 32), datetime(1979, 5, 27, 7, 32, tzinfo=UTC), [], [[]], {},
    {"a": {}},
)  # fmt: skip
_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "epair": (
        "epair0",
        "epair1",
        "epair32767",
        "epair32768",
        "epair00",
        "epair0a",
        "eth0",
        "epair",
        "",
        "a.b",
    ),
    "lo": ("lo0", "lo1", "lo65537", "lo", "l\x1bo"),
}


def _sampled(values: tuple[object, ...]) -> st.SearchStrategy[object]:
    return st.sampled_from(values)


def _value(key: str, field: Any) -> st.SearchStrategy[object]:  # noqa: ANN401
    """Return values of a key: mostly those that its check may accept."""
    if key == "addresses":
        plain = _sampled(_VALUES["address"])
        return st.lists(plain | table_of(AddressSettings), max_size=4)
    if key == "routes":
        return st.lists(table_of(RouteSettings) | _sampled(_SCALARS), max_size=4)
    if key in _VALUES:
        return _sampled(_VALUES[key])
    default = field.default
    if isinstance(default, bool):
        return st.booleans()
    return _sampled(WHOLE) | st.floats(0, 100_000)


@st.composite
def table_of(draw: st.DrawFn, model: type[Settings], absent: int = 3) -> dict[str, object]:
    """Return a table with keys of a model, few of them with a value of another type.

    Of each key that is in it, ``absent`` others are not."""
    table: dict[str, object] = {}
    for key, field in model.model_fields.items():
        if draw(st.integers(0, absent)) and not field.is_required():
            continue
        if (inner := _TABLES.get((model, key))) is not None:
            table[key] = draw(table_of(inner, absent))
        elif not draw(st.integers(0, 19)):
            table[key] = draw(_sampled(_SCALARS))
        else:
            table[key] = draw(_value(key, field))
    if not draw(st.integers(0, 19)):
        table[draw(st.sampled_from(("mtus", "address", "netns", "epair0", "", "a", "x\ny")))] = draw(
            _sampled(_SCALARS)
        )
    return table


@st.composite
def documents(draw: st.DrawFn) -> dict[str, object]:
    """Return a document as tomllib returns one: the tables of the configuration, and sometimes others."""
    document = draw(table_of(Configuration))
    for kind, model in _KINDS.items():
        if draw(st.booleans()):
            names = draw(st.lists(st.sampled_from(_NAMES[kind]), max_size=3, unique=True))
            document[kind] = {name: draw(table_of(model)) for name in names}
    return document


_TABLES: Final[Mapping[tuple[type[Settings], str], type[Settings]]] = {
    (Configuration, "daemon"): DaemonSettings,
    (Configuration, "metrics"): MetricsSettings,
    (Configuration, "namespaces"): NamespacesSettings,
    (PairSettings, "a"): HalfSettings,
    (PairSettings, "b"): HalfSettings,
}
"""The model of a table within a table."""
_KINDS: Final[Mapping[str, type[Settings]]] = {"epair": PairSettings, "lo": LoopbackSettings}
"""The model of the interfaces of each kind."""
