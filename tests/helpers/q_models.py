"""Models that Q expressions are tried on: columns of every kind, and relations that lead further."""

import enum
import uuid
from datetime import date, datetime
from datetime import time as clock
from decimal import Decimal
from typing import Any, Optional

import sqlalchemy as sa
from sqlalchemy.orm import registry
from sqlmodel import Field, Relationship, SQLModel


class Base(SQLModel, registry=registry()):
    """A registry of its own: other tests may name their models alike."""


class Level(enum.Enum):
    LOW = "low"
    HIGH = "high"


class Country(Base, table=True):
    __tablename__ = "q_country"
    id: int | None = Field(default=None, primary_key=True)
    code: str | None = None


class Customer(Base, table=True):
    __tablename__ = "q_customer"
    id: int | None = Field(default=None, primary_key=True)
    name: str | None = None
    age: int | None = None
    country_id: int | None = Field(default=None)
    country: Country | None = Relationship(
        sa_relationship_kwargs={
            "primaryjoin": "foreign(Customer.country_id) == Country.id",
        }
    )
    orders: list["Order"] = Relationship(
        back_populates="customer",
        sa_relationship_kwargs={
            "primaryjoin": "Customer.id == foreign(Order.customer_id)"
        },
    )


class Order(Base, table=True):
    __tablename__ = "q_order"
    id: int | None = Field(default=None, primary_key=True)
    customer_id: int | None = None
    parent_id: int | None = None
    text: str | None = Field(default=None, sa_type=sa.String(60))
    code: str | None = Field(default=None, sa_type=sa.CHAR(8))
    level: int | None = None
    price: Decimal | None = Field(default=None, sa_type=sa.Numeric(12, 2))
    free: Decimal | None = Field(default=None, sa_type=sa.Numeric(30, 9))
    score: float | None = None
    active: bool | None = None
    rank: Level | None = None
    key: uuid.UUID | None = None
    due: date | None = None
    at: datetime | None = Field(default=None, sa_type=sa.DateTime())
    utc: datetime | None = (
        None  # UTCDateTime from SQLModel 0.0.3x on, a naive DateTime before
    )
    aware: datetime | None = Field(default=None, sa_type=sa.DateTime(timezone=True))
    hour: clock | None = None
    data: dict[str, Any] | None = Field(default=None, sa_type=sa.JSON)
    blob: bytes | None = None
    customer: Customer | None = Relationship(
        back_populates="orders",
        sa_relationship_kwargs={
            "primaryjoin": "foreign(Order.customer_id) == Customer.id"
        },
    )
    parent: Optional["Order"] = Relationship(
        sa_relationship_kwargs={
            "primaryjoin": "foreign(Order.parent_id) == remote(Order.id)",
            "uselist": False,
        }
    )

    @property
    def double(self) -> int:
        return 2 * (self.level or 0)
