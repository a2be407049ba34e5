from datetime import date

from sqlalchemy import select, text

from jittask_prefect import Monthly, app, scheduled_task
from shop.models import Contract


@scheduled_task(Monthly(day=-1, start="2026-01-31", at="02:00"))
def monthly_maintenance():
    """Monthly maintenance"""
    ended = select(Contract).where(
        Contract.ends_on < date.today(), Contract.status != "ended"
    )
    with app.session() as session:
        over = session.scalars(ended).all()
        for contract in over:
            contract.status = "ended"
        session.flush()
        session.connection().execute(text("ANALYZE"))
        session.commit()
    return {"contractsEnded": len(over)}
