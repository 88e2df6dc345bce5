from __future__ import annotations

import pytest
from pydantic import ValidationError

from epaird.config import settings
from epaird.config.table import Settings

TABLES = [each for each in vars(settings).values() if isinstance(each, type) and issubclass(each, Settings)]


@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_frozen_and_refuses_unknown_keys(table: type[Settings]) -> None:
    assert table.model_config["frozen"]
    with pytest.raises(ValidationError, match="Extra inputs"):
        table.model_validate({"other": 1})
