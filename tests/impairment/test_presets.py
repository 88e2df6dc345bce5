from __future__ import annotations

import pytest

from epaird.config.impairtables import ImpairmentSettings, set_name
from epaird.config.reading import parse, remarks
from epaird.impairment.presets import SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_set_is_valid_and_canonical_and_names_its_source(name: str) -> None:
    preset = SHIPPED[name]
    assert set_name(name) == name
    assert ImpairmentSettings.model_validate(preset.keys).given() == preset.keys
    assert preset.summary
    assert preset.source
    configuration = parse({"epair": {"epair0": {"impair": {"preset": name}}}})
    assert all("without limit" in remark for remark in remarks(configuration))


def test_a_line_that_lists_them_is_readable() -> None:
    assert len(", ".join(SHIPPED)) < 160
