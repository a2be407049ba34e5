"""The tables of the clinic."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

from sqlalchemy import ForeignKey, Numeric, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from clinic.database import Base


class Practitioner(Base):
    """Who treats patients."""

    __tablename__ = "practitioners"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    room: Mapped[str] = mapped_column(String(20))
    appointments: Mapped[list[Appointment]] = relationship(
        back_populates="practitioner"
    )


class Patient(Base):
    """Who is treated."""

    __tablename__ = "patients"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    email: Mapped[str] = mapped_column(String(200), unique=True)
    born: Mapped[date]
    wants_mail: Mapped[bool] = mapped_column(default=True)
    appointments: Mapped[list[Appointment]] = relationship(back_populates="patient")


class Appointment(Base):
    """When a patient is with a practitioner."""

    __tablename__ = "appointments"

    id: Mapped[int] = mapped_column(primary_key=True)
    patient_id: Mapped[int] = mapped_column(ForeignKey("patients.id"))
    practitioner_id: Mapped[int] = mapped_column(ForeignKey("practitioners.id"))
    starts_at: Mapped[datetime] = mapped_column(index=True)
    minutes: Mapped[int] = mapped_column(default=30)
    status: Mapped[str] = mapped_column(String(20), default="booked")
    reminded: Mapped[bool] = mapped_column(default=False)
    patient: Mapped[Patient] = relationship(back_populates="appointments")
    practitioner: Mapped[Practitioner] = relationship(back_populates="appointments")
    invoices: Mapped[list[Invoice]] = relationship(back_populates="appointment")


class Invoice(Base):
    """What an appointment costs."""

    __tablename__ = "invoices"

    id: Mapped[int] = mapped_column(primary_key=True)
    appointment_id: Mapped[int] = mapped_column(ForeignKey("appointments.id"))
    amount: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    due_on: Mapped[date]
    paid_on: Mapped[date | None]
    appointment: Mapped[Appointment] = relationship(back_populates="invoices")
