"""A mapped attribute as `timezone` or `calendar`: the column of each row's own, of the row or of a related row."""

from __future__ import annotations

from pathlib import Path

import pytest
from marked import declare, problems

from jittask_prefect.elements.config import read_task

MODELS = """
class Region(Base):
    __tablename__ = "regions"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]

class Ward(Base):
    __tablename__ = "wards"
    id: Mapped[int] = mapped_column(primary_key=True)
    zone: Mapped[str]
    region_id: Mapped[int] = mapped_column(sa.ForeignKey("regions.id"))
    region: Mapped[Region] = relationship()

class Visit(Appointment):
    __tablename__ = "visits"
    id: Mapped[int] = mapped_column(sa.ForeignKey("appointments.id"), primary_key=True)
    zone: Mapped[str]
    ward_id: Mapped[int] = mapped_column(sa.ForeignKey("wards.id"))
    old_ward_id: Mapped[int] = mapped_column(sa.ForeignKey("wards.id"))
    ward: Mapped[Ward] = relationship(foreign_keys=ward_id)
"""
SECOND = "    old_ward: Mapped[Ward] = relationship(foreign_keys=old_ward_id)\n"


def keys(folder: Path, arguments: str, models: str = MODELS) -> dict[str, object]:
    task = f"@date_field_task(Appointment.starts_at, {arguments})\ndef f(visit): ...\n"
    found = declare(folder, models + task)
    read_task(found.config, rows=True)
    return found.config["timerCfg"]


def test_a_column_of_the_row(tmp_path: Path) -> None:
    timer = keys(tmp_path, "timezone=Appointment.status", "")
    assert timer["timezoneField"] == "status"
    assert "timezone" not in timer


def test_a_text_is_the_tasks_own(tmp_path: Path) -> None:
    timer = keys(tmp_path, 'timezone="Asia/Tokyo", calendar="JP"', "")
    assert (timer["timezone"], timer["calendar"]) == ("Asia/Tokyo", "JP")
    assert not {"timezoneField", "calendarField"} & timer.keys()


TASK = "@date_field_task(Visit.starts_at, {})\ndef f(visit): ...\n"


@pytest.mark.parametrize(
    ("argument", "key", "path"),
    [
        ("timezone=Visit.zone", "timezoneField", "zone"),
        ("timezone=Appointment.status", "timezoneField", "status"),
        ("timezone=Ward.zone", "timezoneField", "ward__zone"),
        ("calendar=Region.name", "calendarField", "ward__region__name"),
    ],
)
def test_the_way_to_a_related_row(
    tmp_path: Path, argument: str, key: str, path: str
) -> None:
    found = declare(tmp_path, MODELS + TASK.format(argument), "Visit")
    assert found.config["timerCfg"][key] == path


@pytest.mark.parametrize(
    ("models", "argument", "found"),
    [
        (
            MODELS + SECOND,
            "timezone=Ward.zone",
            "Ward.zone, which several relationships lead to: ward__zone, old_ward__zone",
        ),
        (
            MODELS,
            "calendar=Refund.region",
            "Refund.region, which no relationship leads to",
        ),
    ],
)
def test_no_single_way_is_refused(
    tmp_path: Path, models: str, argument: str, found: str
) -> None:
    refund = """
class Refund(Base):
    __tablename__ = "refunds"
    id: Mapped[int] = mapped_column(primary_key=True)
    region: Mapped[str]
"""
    [said] = problems(tmp_path, models + refund + TASK.format(argument), "Visit")
    name = argument.partition("=")[0]
    allowed = (
        "an attribute of Visit, or of a class that a single relationship of it leads to"
    )
    assert f"{name}: found {found}; allowed: {allowed}" in said


@pytest.mark.parametrize(
    "call",
    ["scheduled_task(Daily(), {}=Appointment.status)", "task({}=Appointment.status)"],
)
@pytest.mark.parametrize("name", ["timezone", "calendar"])
def test_a_task_without_rows_takes_a_text(tmp_path: Path, call: str, name: str) -> None:
    if (name, call[:4]) == ("calendar", "task"):
        pytest.skip("`task` has no calendar")
    said = problems(tmp_path, f"@{call.format(name)}\ndef f(): ...\n")
    assert [text.partition(": ")[2] for text in said] == [
        f"{name}: found Appointment.status; allowed: a text; only a task of rows takes a column"
    ]
