from datetime import datetime, timedelta

from sqlalchemy import func, select

from jittask_prefect import Daily, app, scheduled_task
from shop.models import Order


@scheduled_task(Daily(start="2026-01-01", at="18:00"), skip_holiday=True)
def daily_sales_report():
    """Daily sales report"""
    since = datetime.now() - timedelta(days=1)
    paid = select(func.count(), func.sum(Order.amount)).where(Order.paid_at > since)
    with app.session() as session:
        orders, revenue = session.execute(paid).one()
    return {"orders": orders, "revenue": revenue or 0}
