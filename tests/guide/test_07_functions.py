"""Tasks as decorated functions: the same tasks as those in folders, by the same rules.

`docs/shop/` has the demo's ten tasks as functions; the pages under How to show both forms.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jittask_prefect import App
from jittask_prefect.elements.config import read_task
from jittask_prefect.elements.json_files import read_json
from jittask_prefect.elements.types import DateFieldType
from jittask_prefect.schedule.offset import Offset

ROOT = Path(__file__).parents[2]
TABLE = """
[tool.jittask]
name = "shop"
timezone = "Asia/Shanghai"
calendar = "office"
modules = [{modules}]

[tool.jittask.calendars.office]
country = "CN"
"""
FIELDS = {
    "endDate": "ends_on",
    "expiresAt": "expires_at",
    "payBy": "pay_by",
    "dueDate": "due_on",
    "startsAt": "starts_at",
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The package `shop` in a project of its own."""
    folder = tmp_path_factory.mktemp("project")
    package = folder / "shop_of_docs"  # `shop` is a helper of other tests
    shutil.copytree(ROOT / "docs/shop", package)
    names = []
    for file in sorted(package.glob("*.py")):
        file.write_text(file.read_text().replace("from shop.", "from shop_of_docs."))
        if file.stem not in ("__init__", "models", "notices"):
            names.append(f"shop_of_docs.{file.stem}")

    listed = ", ".join(f'"{name}"' for name in names)
    (folder / "pyproject.toml").write_text(TABLE.format(modules=listed))
    path = list(sys.path)
    yield App(folder)
    sys.path[:] = path
    for name in [n for n in sys.modules if n.partition(".")[0] == "shop_of_docs"]:
        del sys.modules[name]


def test_no_function_has_a_mistake(app: App) -> None:
    assert app.check() == []
    assert len(app.templates()) == 10


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("AppointmentReminder", "customer"),
        ("ContractReminder", "subject"),
        ("OrderCancel", "item"),
    ],
)
def test_a_row_has_a_name_for_people(app: App, name: str, label: str) -> None:
    function, folder = app.template(f"tasks.{name}"), App(ROOT / "flows")
    assert isinstance(function, DateFieldType) and function.row_label == label
    of_folder = folder.template(f"tasks.{name}")
    assert isinstance(of_folder, DateFieldType) and of_folder.row_label == "customer"


@pytest.mark.parametrize(
    "name", sorted(p.name for p in (ROOT / "flows/tasks").iterdir() if p.is_dir())
)
def test_both_forms_say_the_same(app: App, name: str) -> None:
    function = app.getElement(f"tasks.{name}")
    raw = read_json(ROOT / f"flows/tasks/{name}/e.json", "e.json")
    folder, timer = read_task(raw, rows=function.rows)
    for key in ("start_field", "end_field"):
        field = getattr(timer, key)
        timer = timer.model_copy(update={key: FIELDS.get(field, field)})

    if timer.start_offset == Offset():  # on time, said or not
        timer = timer.model_copy(update={"offsets": None})

    assert function.timer.cfg == timer
    assert function.title == folder.title
    for key in ("missed", "timeout", "retries", "retryDelay", "enable", "concurrency"):
        assert getattr(function.cfg, key) == getattr(folder, key), key
