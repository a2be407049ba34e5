"""Contradictions that types find: each line that ends with `# wrong`."""

from datetime import datetime, timedelta

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from jittask_prefect import (
    After,
    Before,
    Cron,
    Daily,
    Dates,
    Hourly,
    Monthly,
    Once,
    RRule,
    Weekly,
    Yearly,
    date_field_task,
    scheduled_task,
    task,
)


class Base(DeclarativeBase):
    pass


class Invoice(Base):
    __tablename__ = "invoices"
    id: Mapped[int] = mapped_column(primary_key=True)
    due_on: Mapped[datetime]


Before(days=2, hours=3)  # wrong
After(hours=2, at="09:00")  # wrong
After(seconds=2, at="09:00")  # wrong
Before()  # wrong
Before(days=1.5)  # wrong
Before(fortnights=1)  # wrong
Before(workdays=3, days=1)  # wrong
Weekly("mo")  # wrong
Weekly(["mon", "thu"])  # wrong
Monthly(day="frist monday")  # wrong
Monthly(day=1, month_end="next")  # wrong
Daily(at=9)  # wrong
Daily(every="2")  # wrong
Dates(20260101)  # wrong
Cron(5)  # wrong
Once()  # wrong
Hourly(at=9)  # wrong
RRule(5)  # wrong
Weekly(weekday=["mon", "fri"])  # wrong
Monthly(day=["first monday", "thrid monday"])  # wrong
Yearly(month="march")  # wrong
date_field_task(Invoice)  # wrong
date_field_task(Invoice.due_on, until=5)  # wrong
date_field_task(Invoice.due_on, timezone=Invoice.due_on)  # wrong
date_field_task(Invoice.due_on, where=5)  # wrong
scheduled_task(Daily)  # wrong
scheduled_task(Daily(), title=5)  # wrong
scheduled_task(Daily(), retries="2")  # wrong
scheduled_task(Daily(), timeout="5")  # wrong
scheduled_task(Daily(), tags=5)  # wrong
scheduled_task(Daily(), arguments=[3])  # wrong
scheduled_task(Daily(), missed="first")  # wrong
date_field_task("due_on")  # wrong
date_field_task(Invoice.due_on, timedelta(days=2))  # wrong
date_field_task(Invoice.due_on, Daily())  # wrong
date_field_task(Invoice.due_on, repeat=Once("2026-01-01"))  # wrong
date_field_task(Invoice.due_on, repeat=Before(days=1))  # wrong
date_field_task(Invoice.due_on, holiday_policy="never")  # wrong
date_field_task(Invoice.due_on, dispatch="rows")  # wrong
date_field_task(Invoice.due_on, missed={"policy": "all", "backlook": 5})  # wrong
date_field_task(Invoice.due_on, concurrency={"overlap": "skip"})  # wrong
date_field_task(Invoice.due_on, parallel="4")  # wrong
date_field_task(Invoice.due_on, rate=5)  # wrong
date_field_task(Invoice.due_on, where=lambda invoice: invoice.due_on is None)  # wrong
date_field_task(Invoice.due_on, workers=3)  # wrong
scheduled_task(Before(days=1))  # wrong
scheduled_task(Daily(), where="Q(a=1)")  # wrong
scheduled_task(Daily(), until=Invoice.due_on)  # wrong
task(skip_holiday=True)  # wrong


@date_field_task(Invoice.due_on)  # wrong
def without_a_row() -> None: ...


@task
def export(month: int) -> None: ...


export("March")  # wrong
