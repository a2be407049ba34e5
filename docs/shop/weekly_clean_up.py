from datetime import datetime, timedelta

from sqlalchemy import delete

from jittask_prefect import Weekly, app, scheduled_task
from shop.models import Notice


@scheduled_task(Weekly("wed", "sun", start="2026-01-01", at="03:30"))
def weekly_clean_up():
    """Weekly clean-up"""
    oldest = datetime.now() - timedelta(days=30)
    with app.session() as session:
        deleted = session.execute(
            delete(Notice).where(Notice.sent_at < oldest)
        ).rowcount
        session.commit()
    return {"deleted": deleted}
