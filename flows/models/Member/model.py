from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel


class Member(SQLModel, table=True):
    __tablename__ = "member"

    id: int | None = Field(default=None, primary_key=True)
    partnerKey: str | None = Field(default=None, unique=True)
    customer: str
    email: str
    level: str = "basic"  # basic, silver, gold
    expiresAt: NaiveDatetime = Field(index=True)  # the shop's wall clock
    downgradedAt: NaiveDatetime | None = None
