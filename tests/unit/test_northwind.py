"""Northwind, the classic sample company: what ships late, and when the reminder is due.

The expected plan was computed apart from the package, from the CSV and the federal holidays of 1998.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from jittask_prefect import App
from jittask_prefect.rows.databases import upgrade

DATA = Path(__file__).parents[1] / "data"
NOW = "1998-05-06T00:00:00-04:00"


@pytest.fixture
def northwind(tmp_path: Path) -> Iterator[App]:
    shutil.copytree(DATA / "northwind_app", tmp_path / "northwind")
    app = App(tmp_path / "northwind")
    upgrade(app, models=True)
    orders = app.getElement("models.Orders")
    with (
        app.session() as session,
        (DATA / "northwind/orders.csv").open(encoding="utf-8") as lines,
    ):
        for record in csv.DictReader(lines):
            dates = {
                k: date.fromisoformat(v) if v else None
                for k, v in record.items()
                if k.endswith("Date")
            }
            session.add(
                orders(
                    OrderID=int(record["OrderID"]),
                    CustomerID=record["CustomerID"],
                    EmployeeID=int(record["EmployeeID"]),
                    Freight=float(record["Freight"]),
                    ShipCountry=record["ShipCountry"],
                    **dates,
                )
            )
        session.commit()
    yield app
    app.close()


def test_the_plan_names_the_unshipped_orders_at_the_right_instants(
    northwind: App,
) -> None:
    command = [
        sys.executable,
        "-m",
        "jittask_prefect.cli",
        "sync",
        "--dry-run",
        "--json",
        "--now",
        NOW,
    ]
    env = {**os.environ, "JITTASK_APP": str(northwind.path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    plan = json.loads(done.stdout)
    expected = json.loads(
        (DATA / "northwind/expected_plan.json").read_text(encoding="utf-8")
    )

    found = [{"row": a["row"], "dueTime": a["dueTime"]} for a in plan]

    assert done.stderr == ""
    assert {a["action"] for a in plan} == {"create"}
    assert {a["fullName"] for a in plan} == {"tasks.ShipReminder"}
    assert sorted(found, key=lambda a: a["row"]) == sorted(
        expected, key=lambda a: a["row"]
    )
    assert len(found) == 20


def test_the_order_due_on_memorial_day_is_reminded_of_on_the_day_after(
    northwind: App,
) -> None:
    orders = northwind.getElement("models.Orders")
    with northwind.session() as session:
        order = session.get(orders, 11062)

    # Required on Thursday 28 May 1998; three days before is Memorial Day, Monday 25 May.
    assert order.RequiredDate == date(1998, 5, 28)
    series = northwind.template("tasks.ShipReminder").series(order)
    due = series.next(series.anchor)
    assert due.due.isoformat() == "1998-05-26T09:00:00-04:00"
    assert due.moved == "Memorial Day"
