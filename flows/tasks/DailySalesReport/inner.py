from datetime import datetime

from sqlmodel import select


def customFunc() -> dict[str, int | str]:
    Order = app.getElement("models.Order")
    SalesReport = app.getElement("models.SalesReport")
    now = app.getElement("services.ClockSvc").now()
    today = now.date()
    with app.session() as s:
        before = s.exec(
            select(SalesReport)
            .where(SalesReport.day < today)
            .order_by(SalesReport.day.desc())
        ).first()
        since = before.until if before else datetime.min
        amounts = s.exec(
            select(Order.amount).where(Order.paidAt > since, Order.paidAt <= now)
        ).all()

        report = s.exec(
            select(SalesReport).where(SalesReport.day == today)
        ).first() or SalesReport(day=today)
        report.until = now
        report.orders = len(amounts)
        report.revenue = sum(amounts)
        s.add(report)
        s.commit()
    log.info("%s: %d orders, %.2f", today, len(amounts), sum(amounts) / 100)
    return {"day": today.isoformat(), "orders": len(amounts), "revenue": sum(amounts)}
