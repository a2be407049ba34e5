"""Rows with a zone and a calendar of their own, in columns of theirs or of their customer's."""

from __future__ import annotations

from typing import Any

from shop import COUNT, model_of

CUSTOMER = """
from sqlmodel import Field, SQLModel

class Customer(SQLModel, table=True):
    __tablename__ = "zoned_customer"
    id: int | None = Field(default=None, primary_key=True)
    timezone: str | None = None
    region: str | None = None
    age: int = 40
"""
GUEST = """
from sqlmodel import Field, SQLModel

class Guest(SQLModel, table=True):
    __tablename__ = "zoned_guest"
    id: int | None = Field(default=None, primary_key=True)
    zone: str | None = None
    visit_id: int | None = Field(default=None, foreign_key="zoned_visit.id")
"""
VISIT = """
from datetime import date, datetime
from pydantic import NaiveDatetime
from sqlmodel import Field, Relationship, SQLModel
from models.Customer import Customer
from models.Guest import Guest

class Visit(SQLModel, table=True):
    __tablename__ = "zoned_visit"
    id: int | None = Field(default=None, primary_key=True)
    day: date | None = None
    at: NaiveDatetime | None = None
    moment: datetime | None = None
    until: date | None = None
    zone: str | None = None
    region: str | None = None
    status: str = "booked"
    count: int = 0
    customer_id: int | None = Field(default=None, foreign_key="zoned_customer.id")
    customer: Customer | None = Relationship()
    guests: list[Guest] = Relationship()
"""
AT_NINE = {"offsetType": -1, "offset": 1, "offsetUnit": "day", "time": "09:00"}
"""The day before, at nine."""


def zoned(
    field: str = "at",
    *,
    inner: str = COUNT,
    task: dict[str, Any] | None = None,
    **timer: Any,
) -> dict[str, Any]:
    """The elements of an app whose tasks.Task is due by a date of a Visit; keys of its `timerCfg`, and of its e.json."""
    e_json = {
        "type": "tasks.DateFieldType",
        "title": "Task",
        "modelPath": "models.Visit",
        "timerCfg": {"startField": field, **timer},
        **(task or {}),
    }
    return {
        "models/Customer": model_of(CUSTOMER),
        "models/Guest": model_of(GUEST),
        "models/Visit": model_of(VISIT),
        "tasks/Task": {"e.json": e_json, "inner.py": inner},
    }
