"""Two apps with equal names of templates in one database: neither touches the other's tasks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from projects import MODELS, TASKS, Project
from shop import Shop, model_of, rows_task, utc
from sqlmodel import SQLModel

from jittask_prefect.elements.app import use_app
from jittask_prefect.elements.registry import owners_of
from jittask_prefect.errors import UnknownTask
from jittask_prefect.ledger.entry import Entry
from jittask_prefect.ledger.transitions import claim
from jittask_prefect.rows import hooks
from jittask_prefect.testing import FakePrefect, build_app
from jittask_prefect.testing.fake_prefect import deploy

TEN = datetime(2026, 3, 2, 10)


@pytest.fixture
def apps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Shop, Shop]]:
    """Two apps that read the same rows."""
    database = f"sqlite:///{tmp_path / 'both.db'}"
    made = []
    elements = {"models/Bill": model_of(), "tasks/Task": rows_task("at")}
    for name in ("one", "other"):
        folder = tmp_path / name
        made.append(
            Shop(folder, monkeypatch, dict(elements), name=name, database=database)
        )
    yield made[0], made[1]
    for each in made:
        each.app.close()


def of_app(shop: Shop) -> list[Entry]:
    return [e for e in shop.entries() if e.app == shop.app.name]


def test_each_sync_plans_its_own(apps: tuple[Shop, Shop]) -> None:
    one, other = apps
    one.insert(id=1, status="open", count=0, at=TEN)
    for each in (one, other, one, other):
        each.sync()
    assert [(e.app, e.status, e.generation) for e in one.entries()] == [
        ("one", "pending", 1),
        ("other", "pending", 1),
    ]
    assert len(one.api.all_runs) == len(other.api.all_runs) == 1


def test_a_template_that_is_gone_ends_its_own_tasks(apps: tuple[Shop, Shop]) -> None:
    one, other = apps
    one.insert(id=1, status="open", count=0, at=TEN)
    one.sync()
    other.sync()
    one.again(**{"tasks/Task": None})
    one.sync()
    assert [e.status for e in of_app(one)] == ["ended"]
    assert [e.status for e in of_app(other)] == ["pending"]


def test_a_dead_worker_is_found_by_its_own_sync(apps: tuple[Shop, Shop]) -> None:
    one, other = apps
    one.insert(id=1, status="open", count=0, at=TEN)
    one.sync()
    other.sync()
    [mine] = of_app(one)
    with one.app.engine().begin() as connection:
        assert claim(connection, mine.task_id, "me", "run", utc("2026-03-02 10:00"), 25)
    other.sync("2026-03-02 10:01")
    assert [e.status for e in of_app(one)] == ["executing"]
    one.sync("2026-03-02 10:01")
    assert [(e.status, e.outcome) for e in of_app(one)] == [("error", "died")]


@pytest.mark.parametrize("name", ["task_id", "flow_run_id"])
def test_forced_end_knows_its_own_tasks_only(
    apps: tuple[Shop, Shop], name: str
) -> None:
    one, other = apps
    one.insert(id=1, status="open", count=0, at=TEN)
    one.sync()
    other.sync()
    [theirs] = of_app(other)
    with pytest.raises(UnknownTask, match="there is no such task"):
        one.element("services.TaskSvc").forcedEnd(getattr(theirs, name))
    assert [e.status for e in one.entries()] == ["pending", "pending"]


@pytest.mark.parametrize("first", ["one", "other"])
def test_the_rows_of_both_apps_are_planned_by_their_saves(
    apps: tuple[Shop, Shop], first: str
) -> None:
    """Both apps have a table `bill` of SQLModel's one metadata: whichever is loaded first, neither loses its class."""
    one, other = apps if first == "one" else reversed(apps)
    one.app.load()
    other.app.load()
    for number, shop in enumerate((one, other), 1):
        shop.save(id=number, at=TEN)
        planned = [(e.app, e.row_key, e.status) for e in of_app(shop)]
        assert planned == [(shop.app.name, str(number), "pending")]


def test_an_app_that_closes_leaves_the_table_of_the_other(
    apps: tuple[Shop, Shop],
) -> None:
    one, other = apps
    one.app.load()
    other.app.load()
    one.app.close()
    table = other.element("models.Bill").__table__
    assert table.metadata.tables["bill"] is table
    other.save(id=1, at=TEN)
    assert [e.row_key for e in of_app(other)] == ["1"]


TWO_TABLES = model_of(
    """
from sqlmodel import Field, SQLModel

class Keeper(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)

class Bill(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    keeper_id: int | None = Field(default=None, foreign_key="keeper.id")
"""
)
KEEPER = model_of(
    """
from sqlmodel import Field, SQLModel

class Keeper(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
"""
)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize(
    "earlier",
    [
        [{"models/Bill": model_of()}],
        [{"models/Bill": TWO_TABLES}],
        [{"models/Bill": model_of()}, {"models/Keeper": KEEPER}],
    ],
)
def test_a_file_with_two_tables_that_other_apps_have_too(
    tmp_path: Path, earlier: list[dict[str, object]], closed: bool
) -> None:
    """The class beside the model is no element, and has a table all the same."""
    made = []
    for number, elements in enumerate([*earlier, {"models/Bill": TWO_TABLES}]):
        app = build_app(tmp_path / str(number), elements, name=f"app{number}")
        made.append(app)
        [model] = [app.getElement(name.replace("/", ".")) for name in elements]
        assert model.__table__.metadata.tables[model.__tablename__] is model.__table__
        if closed:
            app.close()
    for app in made:
        app.close()
    assert not {"bill", "keeper"} & set(SQLModel.metadata.tables)


def test_an_app_that_is_made_after_the_first_save_is_followed(
    apps: tuple[Shop, Shop], project: Project
) -> None:
    apps[0].save(id=1, at=TEN)
    app = project.write("tasks", models=MODELS, tasks=TASKS).app
    use_app(app)
    hooks._load_current()
    visit = sys.modules[f"{project.package}.models"].Visit
    assert [(owner.name, name) for owner, name in owners_of(visit)] == [
        ("clinic", "models.Visit")
    ]


def test_one_app_on_two_servers_runs_each_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing refuses the second server; the claim stands in the database, so its runs find nothing to do."""
    elements = {"models/Bill": model_of(), "tasks/Task": rows_task("at")}
    s, second = Shop(tmp_path / "one", monkeypatch, elements), FakePrefect()
    deploy(s.app, second, s.now)
    deploy(s.app, s.api, s.now)
    s.save(id=1, at=TEN)
    for api in (s.api, second, s.api):
        assert api.sync(s.app, s.now).created == 1
    due = utc("2026-03-02 10:00")
    messages = [o.message for api in (second, s.api) for o in api.run_due(s.app, due)]
    assert messages == ["", *["nothing ran: the task was completed before"] * 2]
    assert s.tasks() == ["1 03-02 10:00 #1 completed"]
    s.app.close()
