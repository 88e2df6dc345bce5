"""The text formats, with prometheus_client's encoders and parsers as the oracle."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import Collector

from epaird.control.metrics.collector import metrics_registry
from epaird.control.metrics.exposition import CONTENT_TYPE, CONTENT_TYPE_OPENMETRICS, encode, formats
from tests.control.samples import pair

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\x85\u2028\u2029"))
VALUES = st.one_of(st.integers(0, 2**53), st.floats(0, allow_infinity=False, allow_nan=False))

Parse = Callable[[str], Iterable[Metric]]


class Fixed(Collector):
    """A collector of fixed families."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def first(sample: tuple[str, str, float]) -> str:
    """Return what identifies a series: a page must not have the same twice."""
    return sample[0]


def registry_of(families: list[Metric]) -> CollectorRegistry:
    """Return a registry with only these families."""
    registry = CollectorRegistry()
    registry.register(Fixed(families))
    return registry


@pytest.mark.parametrize(
    ("openmetrics", "oracle", "parse"),
    [(False, generate_latest, parse_text), (True, generate_openmetrics, parse_openmetrics)],
    ids=["text", "openmetrics"],
)
@given(st.text("ab\\\"\n '{}=,#"), st.lists(st.tuples(TEXTS, TEXTS, VALUES), max_size=4, unique_by=first))
def test_reads_the_same_as_prometheus_clients_own(
    openmetrics: bool,
    oracle: Callable[[CollectorRegistry], bytes],
    parse: Parse,
    documentation: str,
    samples: list[tuple[str, str, float]],
) -> None:
    counter = CounterMetricFamily("frames", documentation, labels=["device", "netns"])
    gauge = GaugeMetricFamily("mtu_bytes", documentation, labels=["device", "netns"])
    info = InfoMetricFamily("device", documentation, labels=["device", "netns"])
    for device, netns, value in samples:
        counter.add_metric([device, netns], value)
        gauge.add_metric([device, netns], value)
        info.add_metric([device, netns], {"half": "a"})
    families: list[Metric] = [counter, gauge, info, GaugeMetricFamily("bare", documentation, value=1.5)]
    own = encode(families, openmetrics=openmetrics).decode()
    expected = oracle(registry_of(families)).decode()
    assert list(parse(own)) == list(parse(expected))


def test_the_daemons_page_reads_the_same_in_both_formats() -> None:
    registry = metrics_registry(pair)
    families = [family for family in registry.collect() if family.name.startswith("epaird_")]
    text = encode(families, openmetrics=False).decode()
    openmetrics = encode(families, openmetrics=True).decode()
    assert _samples(parse_text(text)) == _samples(parse_openmetrics(openmetrics))  # type: ignore[no-untyped-call]
    assert openmetrics.endswith("# EOF\n")


def test_integers_stay_exact() -> None:
    family = CounterMetricFamily("frames", "Frames", value=2**64 - 1)
    assert b"frames_total 18446744073709551615\n" in encode([family], openmetrics=False)


def test_families_made_one_after_the_other_keep_their_labels() -> None:
    # The id() of a label set that was freed may be that of the next one.
    def families() -> Iterable[Metric]:
        for number in range(100):
            family = GaugeMetricFamily(f"gauge{number}", "A gauge", labels=["number"])
            family.add_metric([str(number)], 1)
            yield family

    page = encode(families(), openmetrics=False).decode()
    for number in range(100):
        assert f'gauge{number}{{number="{number}"}} 1\n' in page


@pytest.mark.parametrize(
    ("accept", "accepted"),
    [
        ("", CONTENT_TYPE),
        ("*/*", CONTENT_TYPE),
        ("application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.2", CONTENT_TYPE_OPENMETRICS),
        ("application/openmetrics-text;q=0", CONTENT_TYPE),
    ],
)
def test_the_format_is_the_one_that_is_preferred(accept: str, accepted: str) -> None:
    assert formats(accept)[0] == accepted


def _samples(families: Iterable[Metric]) -> set[tuple[str, frozenset[tuple[str, str]], float]]:
    return {(s.name, frozenset(s.labels.items()), s.value) for family in families for s in family.samples}
