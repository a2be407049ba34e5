"""Statements that a fork server compiles are all that a row of its children asks for, and nothing is opened for them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from shop import Shop
from sqlalchemy import event

from jittask_prefect.ledger import prepared
from jittask_prefect.running.compiled import compile_statements

Make, Url = Callable[..., Shop], Callable[[str], str]
COUNT = "def customFunc(row):\n    row.count += 1\n"


def two_rows(shop: Make, url: str, inner: str = COUNT) -> Shop:
    """Two rows due at ten, and engines that have not connected."""
    s = shop(inner=inner, app_json={"database": url}, dispatch="batch")
    bill = s.element("models.Bill")
    with s.session() as session:
        session.add_all([bill(id=key, at=datetime(2026, 3, 2, 10)) for key in (1, 2)])
        session.commit()
    s.sync("2026-03-02 10:00")
    s.app.dispose()
    return s


def test_a_batch_compiles_no_other_statement_of_its_rows(shop: Make, url: Url) -> None:
    s = two_rows(shop, url("postgresql"))
    engine, opened = s.app.engine(), list[object]()
    event.listen(engine, "connect", lambda *made: opened.append(made))
    compile_statements(s.app, lambda: s.now)
    beforehand = set(prepared._known[engine.dialect])
    assert not opened
    s.work("2026-03-02 10:00")
    assert [s.row_count(key) for key in (1, 2)] == [1, 1]
    new = set(prepared._known[engine.dialect]) - beforehand
    assert {name[:2] for name, _ in new} == {
        ("insert", "jittask_state")
    }  # once a process


def test_other_databases_tell_their_kind_first(shop: Make) -> None:
    s = shop(inner=COUNT)
    s.app.dispose()
    compile_statements(s.app, lambda: s.now)
    assert s.app.engine().dialect not in prepared._known


def test_a_broken_task_leaves_the_others(shop: Make, url: Url) -> None:
    s = two_rows(shop, url("postgresql"))
    broken = s.app.folder / "tasks" / "Broken"
    broken.mkdir()
    (broken / "e.json").write_text("{}")
    compile_statements(s.app, lambda: s.now)
    assert s.app.engine().dialect in prepared._known
