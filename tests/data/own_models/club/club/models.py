from datetime import date

from sqlmodel import Field, SQLModel


class Membership(SQLModel, table=True):
    __tablename__ = "club_membership"

    branch: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    ends: date = Field(index=True)
    letters: int = 0
