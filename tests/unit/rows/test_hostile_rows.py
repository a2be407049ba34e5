"""Rows whose key and label are hostile texts, in each place where people meet them: names, forms, pages, files, terminals."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.cells import cell_len
from shop import Shop, model_of, rows_task

from jittask_prefect.cli import queries
from jittask_prefect.dialogs import forms
from jittask_prefect.elements.row_label import label_text
from jittask_prefect.records import text
from jittask_prefect.records.listing import RecordFilter, records
from jittask_prefect.records.overview import overview
from jittask_prefect.records.overview_facts import facts
from jittask_prefect.records.overview_markdown import HEAD, PageLinks, markdown
from jittask_prefect.records.overview_prefect import prefect_facts
from jittask_prefect.records.overview_text import lines
from jittask_prefect.records.row_history import row_history
from jittask_prefect.testing import deploy

Make = Callable[..., Shop]
THING = """
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class Thing(SQLModel, table=True):
    code: str = Field(primary_key=True)
    customer: str
    at: NaiveDatetime | None = None
"""
FAILS = "def customFunc(row):\n    raise OSError(row.customer)\n"
ISOLATES, JOINERS = "\u2068\u2069", "\u200c\u200d"
TEXTS = {
    "end of line": "Wang\nFang\r\nx",
    "other ends of lines": "a\u2028b\u2029c\x85d",
    "right to left": "\u202egnp.exe\u2066 \u200f \u202d",
    "Arabic": "محمد علي",
    "joiners": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "10,000 characters": "x" * 10_000,
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "markdown": "| a | ![x](https://evil.example) [y](javascript:z) **b** `c`\n# d",
    "quotes": "'\"; DROP TABLE thing; --",
    "placeholder": "{{ prefect.secret }} {% x %} {{{ y }}}",
    "prefect's kind": '{"__prefect_kind": "jinja"}',
    "controls": "\x1b[31mred\x07\x08\x7f\x9b2J",
    "null": "a\x00b",
    "emoji": "👨\u200d👩\u200d👧 🇨🇳 \U0001f3f4",
    "formula": '=HYPERLINK("https://evil.example")',
    "blanks": "\u00a0\u2003 \u3000",
    "separators": "a · b · 2026-01-01 00:00 / 50% & more",
    "combining": "Z̸̡̢̛" + "\u0301" * 500,
}


@pytest.fixture(params=TEXTS)
def hostile(request: pytest.FixtureRequest) -> str:
    return TEXTS[request.param]


def key_of(hostile: str) -> str:
    """A key that a database holds."""
    return hostile.replace("\0", "")[:100]


def save(s: Shop, code: str, customer: str) -> None:
    with s.session() as session:
        made = s.element("models.Thing")
        session.add(made(code=code, customer=customer, at=datetime(2026, 3, 2, 10)))
        session.commit()


@pytest.fixture
def s(shop: Make, hostile: str) -> Shop:
    task = rows_task(model="models.Thing", inner=FAILS, dispatch="row")
    made = shop(
        elements={
            "models/Thing": model_of(THING, rowLabel="customer"),
            "tasks/Task": task,
        }
    )
    save(made, key_of(hostile), hostile)
    made.sync()
    return made


def plain(said: str) -> bool:
    """Whether a text is a line that no reader obeys."""
    return all(c.isprintable() or c in ISOLATES + JOINERS for c in said)


def test_names_of_runs_and_tags(s: Shop) -> None:
    (run,) = s.api.all_runs.values()
    name = str(run["name"])
    assert plain(name) and len(name) <= 220
    assert name.startswith("Task · ") and name.endswith(" · 2026-03-02 10:00")
    assert not re.search(r"[<>%&/]|\{\{|__prefect_kind", name)
    assert name.count("\u2068") == name.count("\u2069")
    assert all(plain(tag) and not re.search(r"[<>%&/]|\{\{", tag) for tag in run["tags"])  # fmt: skip


def test_the_drop_down_of_the_form_for_ending_tasks(s: Shop) -> None:
    deploy(s.app, s.api, s.now)
    schema = s.api.all_deployments[forms.END]["parameter_openapi_schema"]
    (option,) = schema["properties"]["task"]["enum"]
    assert plain(option) and "{{" not in option and "<" not in option
    assert option.endswith(f" · pending · {s.entries()[0].task_id}")
    json.dumps(schema).encode()


def test_the_overview(s: Shop, hostile: str) -> None:
    s.at("2026-03-02 10:00")
    s.api.run_due(s.app, s.now)
    found = facts(s.app, prefect_facts(s.app, s.api, s.now), s.now)
    last, label = found.last["tasks.Task"], label_text(hostile, "customer")
    again = {"tasks.Task": type(last)(**{**vars(last), "in_a_row": 2, "label": label})}
    page = overview(type(found)(**{**vars(found), "last": again}))
    shown = markdown(page, PageLinks())
    assert all(c.isprintable() or c in "\n" + JOINERS for c in shown)
    if hostile == TEXTS["joiners"]:
        assert hostile in shown
    assert "<script" not in shown and "<img" not in shown and "{{" not in shown
    links = re.findall(r"(?<!\\)\]\(([^)]*)\)", shown)
    assert all(to.startswith(("/v2/", "data:image/svg+xml;base64,")) for to in links)
    rows = [line for line in shown.splitlines() if line.startswith("| ")]
    cells = {len(re.findall(r"(?<!\\)\|", row)) for row in rows}
    assert cells <= {3, len(HEAD) + 1}
    for width in (40, 100):
        told = list(lines(page, width))
        assert all(plain(line) and cell_len(line) <= width for line in told)


def test_records_in_a_terminal_of_any_width(s: Shop) -> None:
    found = records(s.app, s.api, s.now, RecordFilter())
    for width in (None, 40, 80):
        said = list(text.records(found, UTC, s.now, width))
        assert said and all(plain(line) for line in said)
    story = row_history(s.app, "models.Thing", s.entries()[0].row_key, s.now, 5, 5)
    assert all(plain(line) for width in (None, 40) for line in text.row(story, width))


def test_records_as_a_file_of_csv(
    s: Shop, hostile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = records(s.app, s.api, s.now, RecordFilter())
    out = io.StringIO()
    monkeypatch.setattr(queries.sys, "stdout", out)
    queries.print_csv(found, s.api.ui_url)
    (record,) = csv.DictReader(io.StringIO(out.getvalue()))
    label = record.get("label", "")  # there is no column of empty labels
    for cell in (record["row"], label):
        assert not re.search(r"[\x00\x07\x1b\x9b\u202e\u2028]", cell)
        assert not cell.startswith(("=", "+", "-", "@"))
    assert len(label) <= 61


def test_the_table_of_a_batch(shop: Make, hostile: str) -> None:
    task = rows_task(model="models.Thing", inner=FAILS, dispatch="batch")
    s = shop(
        elements={
            "models/Thing": model_of(THING, rowLabel="customer"),
            "tasks/Task": task,
        }
    )
    for number in ("1", "2"):
        save(s, key_of(hostile) + number, hostile)
    s.sync()
    s.at("2026-03-02 10:00")
    s.api.run_due(s.app, s.now)
    (table,) = s.api.tables.values()
    rows: list[dict[str, Any]] = table
    assert len(rows) == 2
    for row in rows:
        # The key is data: a ledger that is restored from an older copy finds its rows by the key.
        assert row.pop("row")[:-1] == key_of(hostile)
        assert "\\u0000" not in json.dumps(row) and "\x1b" not in row["reason"]
        assert all(plain(str(row.get(cell, ""))) for cell in ("label", "status"))
