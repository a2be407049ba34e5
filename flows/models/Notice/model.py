from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel


class Notice(SQLModel, table=True):
    """The outbox: each message that the shop sends."""

    __tablename__ = "notice"

    id: int | None = Field(default=None, primary_key=True)
    channel: str  # sms goes out at once, email with the daily push
    recipient: str = Field(index=True)
    text: str
    createdAt: NaiveDatetime
    sentAt: NaiveDatetime | None = Field(default=None, index=True)
