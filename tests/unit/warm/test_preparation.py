"""What a fork server prepares: a broken element keeps nothing else from being loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from shop import model_of, rows_task

from jittask_prefect import App
from jittask_prefect.elements import app as apps
from jittask_prefect.elements.app import use_app
from jittask_prefect.errors import ConfigError
from jittask_prefect.testing import build_app
from jittask_prefect.warm.preparation import prepare_apps

LOADED = {"models.Bill", "tasks.Task", "tasks.DateFieldType"}
BROKEN = "raise RuntimeError('at its import')\n"
LATE = """
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

class Base(DeclarativeBase): ...

class Late(Base):
    __tablename__ = "late"
    id: Mapped[int] = mapped_column(primary_key=True)
    other = relationship(lambda: nobody_knows_this_name)
"""


@pytest.mark.parametrize("broken", [BROKEN, LATE])
def test_a_broken_element_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Its file fails, or its mapper does: the app's other models are loaded, and those of the next app."""
    elements = {"models/Bill": model_of(), "tasks/Task": rows_task("at")}
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder, more in zip(
        folders, ({"models/Late": model_of(broken)}, {}), strict=True
    ):
        build_app(folder, {**elements, **more}, name=folder.name).close()
    monkeypatch.setattr(apps, "_APPS", {})
    fresh = [App(folder) for folder in folders]
    for app in fresh:
        use_app(app)
    try:
        prepare_apps()
        assert [set(app._elements) for app in fresh] == [LOADED] * 2
        with pytest.raises(ConfigError):
            fresh[0].getElement("models.Late")
    finally:
        for app in fresh:
            app.close()
