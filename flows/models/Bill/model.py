from datetime import date

from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel


class Bill(SQLModel, table=True):
    __tablename__ = "bill"

    id: int | None = Field(default=None, primary_key=True)
    partnerKey: str | None = Field(default=None, unique=True)
    customer: str
    email: str
    amount: int  # in cents
    dueDate: date = Field(index=True)
    paid: bool = False
    reminders: int = 0
    remindedAt: NaiveDatetime | None = None
