from datetime import date
from typing import Any

from sqlalchemy import event
from sqlmodel import Field, SQLModel


class Customer(SQLModel, table=True):
    __tablename__ = "seed_customer"

    id: int | None = Field(default=None, primary_key=True)
    name: str
    trialEnds: date | None = Field(default=None, index=True)
    reminders: int = 0

    @property
    def _original_data(self) -> dict[str, Any] | None:
        """The values as they were last read from the database; None for a new row."""
        return self.__dict__.get("_loaded")


@event.listens_for(Customer, "load")
@event.listens_for(Customer, "refresh")
def _remember(customer: Customer, *_: Any) -> None:
    loaded = customer.__dict__
    loaded["_loaded"] = {
        key: loaded[key] for key in Customer.model_fields if key in loaded
    }
