from datetime import datetime

from sqlalchemy import select

from jittask_prefect import Daily, app, scheduled_task
from shop.models import Notice


@scheduled_task(Daily(start="2026-01-01", at="09:30"), retries=2, retry_delay=60)
def daily_message_push():
    """Daily message push"""
    with app.session() as session:
        waiting = session.scalars(select(Notice).where(Notice.sent_at.is_(None))).all()
        for notice in waiting:
            notice.sent_at = datetime.now()
        session.commit()
    return {"notices": len(waiting)}
