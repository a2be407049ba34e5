from datetime import date

from fastapi import FastAPI

from library.database import sessions
from library.models import DeviceLoan, Loan, Reader

web = FastAPI()


@web.post("/readers")
async def register(email: str) -> int:
    async with sessions() as session, session.begin():
        reader = Reader(email=email)
        session.add(reader)
    return reader.id


@web.post("/loans")
async def lend(reader: int, due: date, device: bool = False) -> int:
    async with sessions() as session, session.begin():
        loan = (DeviceLoan if device else Loan)(reader_id=reader, due_on=due)
        session.add(loan)
    return loan.id


@web.post("/loans/{key}/return")
async def give_back(key: int) -> None:
    async with sessions() as session, session.begin():
        (await session.get_one(Loan, key)).returned = True
