"""The app that the guide's row tasks work on: contracts, and a reminder seven days before each one ends."""

from pathlib import Path
from typing import Any

from jittask_prefect import App
from jittask_prefect.testing import build_app

CONTRACT = {
    "e.json": {"type": "models.NormalType", "title": "Contract"},
    "model.py": """
from datetime import date
from sqlmodel import Field, SQLModel

class Contract(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    customer: str
    endDate: date | None = None
    status: str = "active"
    reminded: int = 0
""",
}
REMINDER: dict[str, Any] = {
    "e.json": {
        "type": "tasks.DateFieldType",  # one task for each row
        "title": "Contract reminder",
        "modelPath": "models.Contract",
        "filter": "Q(status='active')",  # only these rows have one
        "timerCfg": {
            "startField": "endDate",
            "startOffset": {
                "offsetType": -1,
                "offset": 7,
                "offsetUnit": "day",
                "time": "09:00",
            },
            "repeat": {"repeatType": "normal"},
        },
    },
    "inner.py": "def customFunc(rowData):\n    rowData.reminded += 1\n    return f'wrote to {rowData.customer}'\n",
}


def open_shop(folder: Path) -> App:
    """The shop, in UTC, with empty tables."""
    return build_app(
        folder, {"models/Contract": CONTRACT, "tasks/ContractReminder": REMINDER}
    )
