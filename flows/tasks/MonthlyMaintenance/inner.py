from sqlalchemy import text
from sqlmodel import select


def customFunc() -> dict[str, int]:
    Contract = app.getElement("models.Contract")
    today = app.getElement("services.ClockSvc").now().date()
    with app.session() as s:
        over = s.exec(
            select(Contract).where(Contract.endDate < today, Contract.status != "ended")
        ).all()
        for contract in over:
            contract.status = "ended"
        s.flush()
        s.connection().execute(text("ANALYZE"))
        s.commit()
    return {"contractsEnded": len(over)}
