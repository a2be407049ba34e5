"""The team's own models: plain SQLAlchemy."""

from __future__ import annotations

from datetime import date, datetime

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The base of all models."""


class Contract(Base):
    __tablename__ = "contracts"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    subject: Mapped[str]
    ends_on: Mapped[date] = mapped_column(index=True)
    status: Mapped[str] = mapped_column(default="active")
    reminded_at: Mapped[datetime | None]


class Member(Base):
    __tablename__ = "members"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    level: Mapped[str] = mapped_column(default="basic")
    expires_at: Mapped[datetime] = mapped_column(index=True)


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    item: Mapped[str]
    amount: Mapped[int]
    status: Mapped[str] = mapped_column(default="unpaid")
    stock_held: Mapped[bool] = mapped_column(default=True)
    pay_by: Mapped[datetime] = mapped_column(index=True)
    paid_at: Mapped[datetime | None]


class Bill(Base):
    __tablename__ = "bills"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]
    amount: Mapped[int]
    due_on: Mapped[date] = mapped_column(index=True)
    paid: Mapped[bool] = mapped_column(default=False)
    reminders: Mapped[int] = mapped_column(default=0)


class Appointment(Base):
    __tablename__ = "appointments"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    phone: Mapped[str]
    subject: Mapped[str]
    starts_at: Mapped[datetime] = mapped_column(index=True)
    status: Mapped[str] = mapped_column(default="booked")
    reminded_at: Mapped[datetime | None]


class Notice(Base):
    __tablename__ = "notices"

    id: Mapped[int] = mapped_column(primary_key=True)
    recipient: Mapped[str]
    text: Mapped[str]
    sent_at: Mapped[datetime | None] = mapped_column(index=True)
