from __future__ import annotations

from datetime import date

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    pass


class Reader(Base):
    __tablename__ = "reader"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(100))
    loans: Mapped[list[Loan]] = relationship(back_populates="reader", lazy="raise")


class Loan(Base):
    """A book that a reader has."""

    __tablename__ = "loan"

    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(String(20))
    due_on: Mapped[date] = mapped_column("due_date", index=True)
    returned: Mapped[bool] = mapped_column(default=False)
    reminders: Mapped[int] = mapped_column(default=0)
    reader_id: Mapped[int] = mapped_column(ForeignKey("reader.id"))
    reader: Mapped[Reader] = relationship(back_populates="loans", lazy="raise")

    __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "book"}  # noqa: RUF012


class DeviceLoan(Loan):
    """A device is lent with a deposit."""

    __tablename__ = "device_loan"

    id: Mapped[int] = mapped_column(ForeignKey("loan.id"), primary_key=True)
    deposit: Mapped[int] = mapped_column(default=50)

    __mapper_args__ = {"polymorphic_identity": "device"}  # noqa: RUF012
