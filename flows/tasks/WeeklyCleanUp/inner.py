from datetime import timedelta

from sqlmodel import delete


def customFunc() -> dict[str, int]:
    Notice = app.getElement("models.Notice")
    oldest = app.getElement("services.ClockSvc").now() - timedelta(days=30)
    with app.session() as s:
        deleted = s.exec(delete(Notice).where(Notice.sentAt < oldest)).rowcount
        s.commit()
    return {"deleted": deleted}
