"""The calendars that an app gives to the code of its tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jittask_prefect.errors import ArgumentError
from jittask_prefect.testing import build_app


@pytest.mark.parametrize("name", ["", 5, ["DE"], b"DE"])
def test_a_name_that_is_none_is_refused_and_is_not_the_apps_own_calendar(
    tmp_path: Path, name: Any
) -> None:
    app = build_app(tmp_path / "app", {}, calendar="DE")
    with pytest.raises(ArgumentError, match="country code"):
        app.calendar(name)
    app.close()
