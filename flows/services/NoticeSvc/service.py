from datetime import datetime

from sqlmodel import select

from jittask_prefect import NormalService


class NoticeSvc(NormalService):
    def sendSms(self, phone: str, text: str) -> None:
        """Send a text message at once."""
        self._add("sms", phone, text, sentAt=self._now())

    def queueEmail(self, address: str, text: str) -> None:
        """Put a mail into the outbox; the daily push sends it."""
        self._add("email", address, text)

    def pushDaily(self) -> dict[str, int]:
        """Send what waits in the outbox, one mail for each recipient."""
        Notice = app.getElement("models.Notice")
        with app.session() as s:
            waiting = s.exec(select(Notice).where(Notice.sentAt.is_(None))).all()
            for notice in waiting:
                notice.sentAt = self._now()
            recipients = {notice.recipient for notice in waiting}
            s.commit()
        log.info("%d notices to %d recipients", len(waiting), len(recipients))
        return {"notices": len(waiting), "recipients": len(recipients)}

    def _add(
        self, channel: str, recipient: str, text: str, sentAt: datetime | None = None
    ) -> None:
        Notice = app.getElement("models.Notice")
        # In a row task this is the row's own session: the notice is committed together with the row.
        with app.session() as s:
            s.add(
                Notice(
                    channel=channel,
                    recipient=recipient,
                    text=text,
                    createdAt=self._now(),
                    sentAt=sentAt,
                )
            )
            s.commit()

    def _now(self) -> datetime:
        return app.getElement("services.ClockSvc").now()
