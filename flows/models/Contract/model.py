from datetime import date

from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel


class Contract(SQLModel, table=True):
    __tablename__ = "contract"

    id: int | None = Field(default=None, primary_key=True)
    partnerKey: str | None = Field(default=None, unique=True)
    customer: str
    email: str
    subject: str
    endDate: date = Field(index=True)
    status: str = "active"  # active, expiring, ended
    remindedAt: NaiveDatetime | None = None
