"""Decorated tasks as types accept them: SQLAlchemy's models and SQLModel's."""

from datetime import date, datetime, time

from sqlalchemy import ForeignKey
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlmodel import Field, SQLModel

from jittask_prefect import (
    After,
    Before,
    Cron,
    Daily,
    Dates,
    Hourly,
    Minutely,
    Monthly,
    Once,
    RRule,
    Weekly,
    Workdays,
    Yearly,
    date_field_task,
    now,
    scheduled_task,
    task,
    today,
)


class Base(DeclarativeBase):
    pass


class Patient(Base):
    __tablename__ = "patients"
    id: Mapped[int] = mapped_column(primary_key=True)
    active: Mapped[bool]
    region: Mapped[str | None]
    born: Mapped[date | None]


class Appointment(Base):
    __tablename__ = "appointments"
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str]
    zone: Mapped[str]
    starts_at: Mapped[datetime]
    paid_on: Mapped[date | None]
    patient_id: Mapped[int] = mapped_column(ForeignKey("patients.id"))
    patient: Mapped[Patient] = relationship()


class Contract(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    status: str
    ends_on: date


@date_field_task(
    Appointment.starts_at,
    Before(days=2, at="09:00"),
    where=Appointment.status == "booked",
    skip_holiday=True,
)
def remind_patient(appointment: Appointment) -> None: ...


@date_field_task(
    Appointment.paid_on,
    After(days=3, at=time(9)),
    repeat=Weekly("mon", "thu"),
    until=After(Appointment.starts_at, months=3),
    where=Appointment.paid_on.is_(None) & (Appointment.starts_at > now(hours=2)),
    missed={"policy": "all", "lookback": 3600},
    concurrency={"limit": 1, "overlap": "skip"},
    parallel=1,
    rate="100/minute",
    timezone=Appointment.zone,
    calendar=Patient.region,
)
async def collect(appointment: Appointment) -> None: ...


@date_field_task(Patient.born, repeat=Yearly(at="08:00"), until="2030-12-31")
def birthday(patient: Patient) -> None: ...


@date_field_task(
    Appointment.starts_at, where=lambda: Appointment.patient.has(Patient.active)
)
def prepare(appointment: Appointment) -> None: ...


@date_field_task(Contract.ends_on, Before(weeks=1), where=Contract.status == "active")
def expire(contract: Contract) -> None: ...


@date_field_task(Contract.ends_on, where="Q(status='active')", until=date(2030, 1, 1))
def expire_by_text(contract: Contract) -> None: ...


@date_field_task(Contract.ends_on, where=Contract.ends_on > today(days=-30))
def expire_soon(contract: Contract) -> None: ...


@scheduled_task(Monthly(day=-1, at="18:00"), holiday_policy="previous", missed="none")
def close_books() -> None: ...


@scheduled_task(Monthly(day=["first monday", "first friday"]), concurrency=1)
def plan() -> None: ...


@scheduled_task(Cron("0 6 * * 1-5"), arguments={"month": 3}, tags=["books"])
def report(month: int) -> None: ...


@scheduled_task(Once(datetime(2026, 5, 1, 9)))
async def once() -> None: ...


@task
def export(month: int) -> None: ...


@task(title="Import", retries=3)
def load() -> None: ...


RULES = [
    Minutely(every=5, start="2026-01-01"),
    Hourly(at="00:30"),
    Daily(every=2, start=date(2026, 1, 1)),
    RRule("FREQ=MONTHLY", at="09:00"),
    Dates("2026-01-01", date(2026, 4, 1), at="09:00"),
    Monthly(day=[1, 15], month_end="skip"),
    Monthly(day="last workday", at="18:00"),
    Workdays(every=3, start="2026-01-05", at="08:00"),
]

export(3)  # the function keeps its type
