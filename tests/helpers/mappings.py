"""The same model, `Contract`, in each form of SQLAlchemy's mappings: the texts of a `model.py`.

Each has the attributes `ends` (a datetime) and `count`, and a key. Where a form needs more values for a new row, or
has another key, `FORMS` says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

SQLMODEL = """
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel

class Contract(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    status: str = "open"
    ends: NaiveDatetime | None = None
    count: int = 0
"""
_PLAIN = """
from datetime import datetime
from sqlalchemy import Column, DateTime, ForeignKey, Integer, MetaData, String, Table
from sqlalchemy.orm import (
    DeclarativeBase, Mapped, MappedAsDataclass, deferred, mapped_column, registry, relationship,
)

"""
_COLUMNS = """
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(String(20), default="open")
    ends: Mapped[datetime | None] = mapped_column(default=None)
    count: Mapped[int] = mapped_column(default=0)
"""
DECLARATIVE = f"""{_PLAIN}
class Base(DeclarativeBase):
    pass

class Contract(Base):
    __tablename__ = "contract"
{_COLUMNS}
"""
DATACLASS = f"""{_PLAIN}
class Base(MappedAsDataclass, DeclarativeBase):
    pass

class Contract(Base):
    __tablename__ = "contract"

    id: Mapped[int] = mapped_column(primary_key=True, init=False)
    customer: Mapped[str] = mapped_column(String(20))
    status: Mapped[str] = mapped_column(String(20), default="open", kw_only=True)
    ends: Mapped[datetime | None] = mapped_column(default=None, kw_only=True)
    count: Mapped[int] = mapped_column(default=0, kw_only=True)
"""
IMPERATIVE = f"""{_PLAIN}
table = Table(
    "contract", MetaData(), Column("id", Integer, primary_key=True), Column("status", String(20)),
    Column("ends", DateTime), Column("count", Integer),
)

class Contract:
    def __init__(self, ends, status="open"):
        self.ends, self.status, self.count = ends, status, 0

registry().map_imperatively(Contract, table)
"""
SINGLE_BASE = f"""{_PLAIN}
class Base(DeclarativeBase):
    pass

class Contract(Base):
    __tablename__ = "contract"
{_COLUMNS}
    kind: Mapped[str] = mapped_column(String(20))
    __mapper_args__ = {{"polymorphic_on": "kind", "polymorphic_identity": "plain"}}

class Lease(Contract):
    __mapper_args__ = {{"polymorphic_identity": "lease"}}
"""
SINGLE_SUB = f"""{_PLAIN}
class Base(DeclarativeBase):
    pass

class Agreement(Base):
    __tablename__ = "agreement"
{_COLUMNS}
    kind: Mapped[str] = mapped_column(String(20))
    __mapper_args__ = {{"polymorphic_on": "kind", "polymorphic_identity": "plain"}}

class Contract(Agreement):
    __mapper_args__ = {{"polymorphic_identity": "contract"}}
"""
JOINED_BASE = f"""{_PLAIN}
class Base(DeclarativeBase):
    pass

class Contract(Base):
    __tablename__ = "contract"
{_COLUMNS}
    kind: Mapped[str] = mapped_column(String(20))
    __mapper_args__ = {{"polymorphic_on": "kind", "polymorphic_identity": "plain"}}

class Lease(Contract):
    __tablename__ = "lease"
    id: Mapped[int] = mapped_column(ForeignKey("contract.id"), primary_key=True)
    place: Mapped[str] = mapped_column(String(20), default="Berlin")
    __mapper_args__ = {{"polymorphic_identity": "lease"}}
"""
JOINED_SUB = f"""{_PLAIN}
class Base(DeclarativeBase):
    pass

class Agreement(Base):
    __tablename__ = "agreement"
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(String(20), default="open")
    kind: Mapped[str] = mapped_column(String(20))
    __mapper_args__ = {{"polymorphic_on": "kind", "polymorphic_identity": "plain"}}

class Contract(Agreement):
    __tablename__ = "contract"
    number: Mapped[int] = mapped_column(ForeignKey("agreement.id"), primary_key=True)
    ends: Mapped[datetime | None] = mapped_column(default=None)
    count: Mapped[int] = mapped_column(default=0)
    __mapper_args__ = {{"polymorphic_identity": "contract"}}
"""
COMPOSITE = f"""{_PLAIN}
class Base(DeclarativeBase):
    pass

class Contract(Base):
    __tablename__ = "contract"

    branch: Mapped[str] = mapped_column(String(20), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    status: Mapped[str] = mapped_column(String(20), default="open")
    ends: Mapped[datetime | None] = mapped_column(default=None)
    count: Mapped[int] = mapped_column(default=0)
"""
RENAMED = f"""{_PLAIN}
class Base(DeclarativeBase):
    pass

class Contract(Base):
    __tablename__ = "CONTRACT_T"

    key: Mapped[int] = mapped_column("CONTRACT_ID", primary_key=True)
    status: Mapped[str] = mapped_column("count", String(20), default="open")
    ends: Mapped[datetime | None] = mapped_column("end date", default=None)
    count: Mapped[int] = mapped_column("status", default=0)
"""
SCHEMA = f"""{_PLAIN}
class Base(DeclarativeBase):
    pass

class Contract(Base):
    __tablename__ = "contract"
    __table_args__ = {{"schema": "SCHEMA"}}
{_COLUMNS}
"""
DEFERRED = f"""{_PLAIN}
class Base(DeclarativeBase):
    pass

class Customer(Base):
    __tablename__ = "customer"
    id: Mapped[int] = mapped_column(primary_key=True)

class Contract(Base):
    __tablename__ = "contract"

    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(String(20), default="open", deferred=True, deferred_raiseload=True)
    ends: Mapped[datetime | None] = mapped_column(default=None, deferred=True, deferred_raiseload=True)
    count: Mapped[int] = mapped_column(default=0)
    customer_id: Mapped[int | None] = mapped_column(default=None)
    customer: Mapped[Customer | None] = relationship(
        lazy="raise", primaryjoin="foreign(Contract.customer_id) == Customer.id"
    )
"""


@dataclass(frozen=True)
class Form:
    """A form of mapping.

    Attributes:
        source: The text of `model.py`.
        keys: The keys of rows 1, 2, … as the ledger has them; `{}` is the number.
        more: Values that a new row needs besides, by attribute.
        identity: The attributes of the key that a new row is given, with a function from its number.
    """

    source: str
    keys: str = "{}"
    more: dict[str, Any] = field(default_factory=dict)
    identity: dict[str, Any] = field(default_factory=dict)

    def key(self, number: int) -> str:
        return self.keys.replace("{}", str(number))

    def row(self, cls: type[Any], number: int, ends: datetime) -> Any:
        given = {name: make(number) for name, make in self.identity.items()}
        return cls(ends=ends, **given, **self.more)


FORMS = {
    "sqlmodel": Form(SQLMODEL),
    "declarative": Form(DECLARATIVE),
    "dataclass": Form(DATACLASS, more={"customer": "Ada"}),
    "imperative": Form(IMPERATIVE),
    "single base": Form(SINGLE_BASE),
    "single subclass": Form(SINGLE_SUB),
    "joined base": Form(JOINED_BASE),
    "joined subclass": Form(JOINED_SUB),
    "composite key": Form(
        COMPOSITE,
        '["north",{}]',
        identity={"branch": lambda n: "north", "number": lambda n: n},
    ),
    "renamed": Form(RENAMED),
    "schema": Form(SCHEMA),
    "deferred": Form(DEFERRED),
}
