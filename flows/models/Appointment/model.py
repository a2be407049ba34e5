from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel


class Appointment(SQLModel, table=True):
    __tablename__ = "appointment"

    id: int | None = Field(default=None, primary_key=True)
    partnerKey: str | None = Field(default=None, unique=True)
    customer: str
    phone: str
    subject: str
    startsAt: NaiveDatetime = Field(index=True)  # the shop's wall clock
    status: str = "booked"  # booked, confirmed, cancelled
    remindedAt: NaiveDatetime | None = None
