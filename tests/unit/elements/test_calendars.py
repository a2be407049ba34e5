"""The calendars that an app gives to the code of its tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jittask_prefect.errors import ArgumentError
from jittask_prefect.testing import build_app


@pytest.mark.parametrize("name", ["", 5, ["DE"], b"DE"])
def test_an_empty_name_and_a_value_that_is_no_text_are_refused(
    tmp_path: Path, name: Any
) -> None:
    app = build_app(tmp_path / "app", {}, calendar="DE")
    with pytest.raises(ArgumentError, match="country code"):
        app.calendar(name)
    app.close()
