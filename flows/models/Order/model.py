from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel


class Order(SQLModel, table=True):
    __tablename__ = "orders"

    id: int | None = Field(default=None, primary_key=True)
    partnerKey: str | None = Field(default=None, unique=True)
    customer: str
    email: str
    item: str
    amount: int  # in cents
    status: str = "unpaid"  # unpaid, paid, cancelled
    stockHeld: bool = True
    payBy: NaiveDatetime = Field(index=True)  # the shop's wall clock
    paidAt: NaiveDatetime | None = Field(default=None, index=True)
    cancelledAt: NaiveDatetime | None = None
