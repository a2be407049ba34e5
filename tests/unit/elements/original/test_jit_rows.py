"""Rows, values and queries in JitTask's style, in functions that tasks run."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

from jittask_prefect.elements.original.jit_rows import JitRow, plain_rows
from jittask_prefect.elements.original.jit_values import ValueForgotten
from tests.helpers.shop import MODEL, Shop, model_of, rows_task

OWNED = (
    MODEL
    + """
    owner_id: int | None = Field(default=None, foreign_key="owner.id")

    def label(self):
        return f"{self.status.value}/{self.count.value}"

    @property
    def is_open(self):
        return self.status.isEqual("open")

    def afterSave(self, triggerEvent=1):
        SEEN.append((type(self).__name__, self.count.value))

SEEN = []
"""
)


def shop(
    tmp_path: Path,
    patch: pytest.MonkeyPatch,
    inner: str,
    *,
    style: str = "jit",
    source: str = OWNED,
    **more: Any,
) -> Shop:
    source = source.replace(
        '    owner_id: int | None = Field(default=None, foreign_key="owner.id")\n', ""
    )
    elements = {
        "models/Bill": model_of(source),
        "tasks/Task": rows_task(inner=inner),
        **more,
    }
    return Shop(tmp_path, patch, elements, rowStyle=style)


def outcome(s: Shop, **fields: Any) -> Any:
    """The outcome of the task of a new row that is due."""
    from datetime import datetime

    s.save(at=datetime(2026, 3, 2, 9), **fields)
    s.api.sync(s.app, s.now)
    s.at("2026-03-02 09:00")
    [ended] = s.api.run_due(s.app, s.now)
    return ended


# (expression on the view of a row with status "open", count 0, day None) → result
READ = {
    "row.status.value": "open",
    "row.count.value + 1": 1,
    "row.day.isNull(), row.day.isNotNull(), row.status.isNull()": (True, False, False),
    "row.status.isEqual('open'), row.status.notEqual('open')": (True, False),
    "row.count.gt(-1), row.count.gte(0), row.count.lt(0), row.count.lte(0)": (
        True,
        True,
        False,
        True,
    ),
    "row.day.gt('2026-01-01'), row.day.lt('2026-01-01')": (False, False),
    "row.at.gt('2026-03-02 08:59:59'), row.at.isEqual('2026-03-02 09:00:00')": (
        True,
        True,
    ),
    "row.count.isEqual(row.count)": True,
    "row.label()": "open/0",
    "row.is_open": True,
    "f'{row.status} {row.count:03d}', str(row.count)": ("open 000", "0"),
    "type(row.row).__name__": "Bill",
    "row == row.row, row.row is row.row": (True, True),
}


@pytest.mark.parametrize("expression", READ)
def test_a_view_of_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expression: str
) -> None:
    inner = f"FOUND = []\ndef customFunc(row):\n    FOUND.append(({expression}))\n"
    s = shop(tmp_path, monkeypatch, inner)
    assert outcome(s).status == "completed"
    assert [READ[expression]] == s.app.module("tasks.Task", "inner").FOUND


WRITTEN = {
    "row.status.value = 'x'": "x",
    "row.status = 'x'": "x",
    "row.status.value = 'x'; row.save()": "x",
    "row.row.status = 'x'": "x",
    "row.status = datatypes.Stext.new({}, 'x')": "x",
    "other = row; other.status.value = row.count; row.status.value = 'x'": "x",
}


@pytest.mark.parametrize("statement", WRITTEN)
def test_a_change_commits_with_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    inner = (
        f"from datatypes.Meta import datatypes\ndef customFunc(row):\n    {statement}\n"
    )
    s = shop(tmp_path, monkeypatch, inner)
    assert outcome(s).status == "completed"
    assert s.row(1).status == "x"


FORGOTTEN = (
    "if row.status: pass", "row.count + 1", "1 + row.count", "row.count += 1", "row.count > 0", "row.count == 0",
    "row.status != 'x'", "not row.status", "row.status and 1", "int(row.count)", "-row.count", "'o' in row.status",
    "len(row.status)", "for x in row.status: pass", "row.status[0]", "sum([row.count])", "row.count in [0]",
)  # fmt: skip


@pytest.mark.parametrize("statement", FORGOTTEN)
def test_a_forgotten_value_raises_with_the_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    s = shop(tmp_path, monkeypatch, f"def customFunc(row):\n    {statement}\n")
    ended = outcome(s)
    assert ended.status == "error"
    field = "count" if "count" in statement else "status"
    assert f"write Bill.{field}.value" in ended.message
    assert s.row(1).count == 0


def test_a_method_of_the_value_names_the_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = shop(tmp_path, monkeypatch, "def customFunc(row):\n    row.status.upper()\n")
    assert "write Bill.status.value.upper" in outcome(s).message


def test_events_of_the_model_get_a_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = shop(tmp_path, monkeypatch, "def customFunc(row):\n    row.count.value = 3\n")
    outcome(s)
    assert s.app.module("models.Bill", "model").SEEN == [("JitRow", 0), ("JitRow", 3)]


def test_plain_style_hands_the_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = "from models.Bill import Bill\ndef customFunc(row):\n    row.status = f'{isinstance(row, Bill)}'\n"
    s = shop(tmp_path, monkeypatch, inner, style="plain", source=MODEL)
    outcome(s)
    assert s.row(1).status == "True"


def test_the_facade_takes_views_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = shop(tmp_path, monkeypatch, "def customFunc(row): pass\n", source=MODEL)
    facade = s.element("services.TaskSvc")
    from datetime import datetime

    key = s.save(at=datetime(2026, 3, 4, 9))
    with s.session() as session:
        view = JitRow(s.app, session.get(s.element("models.Bill"), key))
        saved = facade.saveDateFieldTask({"postData": view, "prevData": view})
        assert [task["action"] for task in saved["tasks"]] == ["unchanged"]
        assert facade.deleteDateFieldTask({"prevData": view})["ended"] == 1


def test_views_go_into_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = shop(tmp_path, monkeypatch, "def customFunc(row): pass\n", source=MODEL)
    view = JitRow(s.app, s.element("models.Bill")(count=4))
    with s.app.session() as session:
        session.add(view)
        session.commit()
        assert session.get(s.element("models.Bill"), view.id.value).count == 4
    assert plain_rows({"prevData": view, "n": 1}) == {"prevData": view.row, "n": 1}


def test_a_view_is_copied_and_does_not_pickle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = shop(tmp_path, monkeypatch, "def customFunc(row): pass\n", source=MODEL)
    view = JitRow(s.app, s.element("models.Bill")(count=4))
    assert copy.copy(view) == view
    with pytest.raises(TypeError, match=r"view\.row"):
        pickle.dumps(view)
    assert not hasattr(JitRow.__new__(JitRow), "row")
    assert not hasattr(copy.copy(s.app.services), "Nope")


# Queries

QUERIES = {
    "len(Bill.query().rowDatas), Bill.query().totalCount": (3, 3),
    "[r.id.value for r in Bill.query(\"Q('count', '>', 1)\")['rowDatas']]": [2, 3],
    "[r.id.value for r in Bill.query(Q('count', '>', 1) & ~Q(status='shut')).rowDatas]": [
        2
    ],
    "[r.id.value for r in Bill.query(Q(Q('count', '=', 1), Q.OR, Q(count=3))).rowDatas]": [
        1,
        3,
    ],
    "[r.id.value for r in Bill.query(orderList=['-count']).rowDatas]": [3, 2, 1],
    "[r.id.value for r in Bill.query(orderList=[['status', -1], ['count', 'desc']]).rowDatas]": [
        3,
        2,
        1,
    ],
    "[r.id.value for r in Bill.query(None, ['count'], ['id'], 2, 2, 1).rowDatas]": [3],
    "Bill.query(page=2, size=2).totalCount, Bill.query(page=2, size=2)['totalCount']": (
        3,
        3,
    ),
    "Bill.get(\"Q('status', '=', 'shut')\").count.value": 3,
    "Bill.get(Q(day=Q.today(days=1)))": None,
    "Bill.get(Q(count__in=[2])).id.value": 2,
    "Bill.get(None, ['-id']).id.value": 3,
    "app.models.Bill.get(Q(count=datatypes.Numeric.new({}, 2))).id.value": 2,
    "app.getElement('models.Bill').query(Q('count', 'range', [1, 2])).totalCount": 2,
}
DAILY = {
    "type": "tasks.NormalType",
    "title": "Daily",
    "timerCfg": {"startTime": "2026-03-02 09:00:00", "repeat": {"repeatType": "day"}},
}


def scheduled(
    tmp_path: Path, patch: pytest.MonkeyPatch, body: str, style: str = "jit"
) -> Shop:
    inner = f"from models.Bill import Bill\nfrom datatypes.Meta import datatypes\nFOUND = []\ndef customFunc():\n    {body}\n"
    daily = {"tasks/Daily": {"e.json": DAILY, "inner.py": inner}}
    s = shop(
        tmp_path,
        patch,
        "def customFunc(row): pass\n",
        style=style,
        source=MODEL,
        **daily,
    )
    for n, status in enumerate(("open", "open", "shut"), 1):
        s.save(count=n, status=status)
    return s


def run_daily(s: Shop) -> Any:
    facade = s.element("services.TaskSvc")
    facade.createTimerTask(
        "tasks.Daily", "2026-03-02 08:00:00", "customFunc", "tasks.NormalType"
    )
    [ended] = s.api.run_due(s.app, s.now)
    return ended


@pytest.mark.parametrize("expression", QUERIES)
def test_a_query_in_a_scheduled_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, expression: str
) -> None:
    s = scheduled(tmp_path, monkeypatch, f"FOUND.append(({expression}))")
    ended = run_daily(s)
    assert ended.status == "completed", ended.message
    assert [QUERIES[expression]] == s.app.module("tasks.Daily", "inner").FOUND


CHANGES = {
    ("jit", "Bill.get(Q(count=2)).status.value = 'x'"): "x",
    ("jit", "r = Bill.get(Q(count=2)); r.status.value = 'x'; r.save()"): "x",
    ("plain", "Bill.get(Q(count=2)).status = 'x'"): "x",
    ("jit", "Bill.get(Q(count=2)).status.value = 'x'; 1 / 0"): "open",
    ("jit", "r = Bill.get(Q(count=2)); r.status.value = 'x'; r.save(); 1 / 0"): "x",
}


@pytest.mark.parametrize(("style", "body"), CHANGES)
def test_changes_of_a_scheduled_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, style: str, body: str
) -> None:
    """They commit when the function succeeds; `save` commits at once."""
    s = scheduled(
        tmp_path,
        monkeypatch,
        f"r = {body}" if body.startswith("Bill.get(Q(count=2)).x") else body,
        style,
    )
    assert run_daily(s).status == ("error" if "1 / 0" in body else "completed")
    assert s.row(2).status == CHANGES[style, body]


def test_a_query_in_a_rows_task_sees_the_rows_own_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = """
    from models.Bill import Bill
    def customFunc(row):
        row.count.value = 8
        again = Bill.get(Q(count=8))
        assert again.row is row.row
        again.status.value = "found"
    """
    import textwrap

    s = shop(tmp_path, monkeypatch, textwrap.dedent(inner), source=MODEL)
    assert outcome(s).status == "completed"
    assert (s.row(1).status, s.row(1).count) == ("found", 8)


def test_rows_outlive_a_query_outside_of_functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s = scheduled(tmp_path, monkeypatch, "pass")
    row = s.app.models.Bill.get("Q(count=2)")
    row.status.value = "x"
    row.save()
    assert s.row(2).status == "x"
    assert row.status.value == "x"


REFUSED = {
    "Bill.query(\"Q('nope', '=', 1)\")": "'nope'",
    "Bill.query('__import__(1)')": "__import__",
    "Bill.query(orderList=['nope'])": "models.Bill has the fields id, status",
    "Bill.query(orderList=[['count', 2]])": "a field, -field, or [field, 1 or -1]",
    "Bill.query(fieldList=['nope'])": "fieldList 'nope'",
    "Bill.query(page=0)": "page 0; allowed: a number from 1 on",
    "Q('a', '=', object())": "a value of type object",
    "Q(a=1) and Q(b=2)": "& for and",
}


@pytest.mark.parametrize("call", REFUSED)
def test_a_query_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    ended = run_daily(scheduled(tmp_path, monkeypatch, call))
    assert ended.status == "error"
    assert REFUSED[call] in ended.message


def test_a_forgotten_value_is_a_type_error_too() -> None:
    assert issubclass(ValueForgotten, TypeError)
