from datetime import date

from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel


class SalesReport(SQLModel, table=True):
    __tablename__ = "sales_report"

    id: int | None = Field(default=None, primary_key=True)
    day: date = Field(unique=True)
    until: NaiveDatetime
    orders: int = 0
    revenue: int = 0  # in cents
