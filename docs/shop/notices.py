"""The outbox, as functions of the team's own."""

from datetime import datetime

from jittask_prefect import app
from shop.models import Notice


def send_sms(phone: str, text: str) -> None:
    """Send a text message at once."""
    _add(phone, text, datetime.now())


def queue_email(address: str, text: str) -> None:
    """Put a mail into the outbox; the daily push sends it."""
    _add(address, text, None)


def _add(recipient: str, text: str, sent_at: datetime | None) -> None:
    # In a row task this is the row's own session: the notice commits together with the row.
    with app.session() as session:
        session.add(Notice(recipient=recipient, text=text, sent_at=sent_at))
        session.commit()
