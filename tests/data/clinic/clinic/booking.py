"""The rules of booking."""

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from clinic.models import Appointment


class BookedError(Exception):
    """The practitioner has another appointment then."""


def book(session: Session, appointment: Appointment) -> Appointment:
    """Book an appointment where the practitioner has none at the time."""
    begin = appointment.starts_at
    end = begin + timedelta(minutes=appointment.minutes or 30)
    if any(_overlaps(other, begin, end) for other in _of_day(session, appointment)):
        raise BookedError
    session.add(appointment)
    session.commit()
    return appointment


def cancel(session: Session, appointment: Appointment) -> None:
    """Cancel an appointment."""
    appointment.status = "cancelled"
    session.commit()


def _of_day(session: Session, appointment: Appointment) -> list[Appointment]:
    midnight = appointment.starts_at.replace(hour=0, minute=0, second=0, microsecond=0)
    found = session.scalars(
        select(Appointment).where(
            Appointment.practitioner_id == appointment.practitioner_id,
            Appointment.status == "booked",
            Appointment.starts_at >= midnight,
            Appointment.starts_at < midnight + timedelta(days=1),
        )
    )
    return list(found)


def _overlaps(other: Appointment, begin: datetime, end: datetime) -> bool:
    ends = other.starts_at + timedelta(minutes=other.minutes)
    return other.starts_at < end and begin < ends
