"""What a function may do with an ordinary session, drawn at random, and what an ordinary session makes of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, create_engine, delete, event, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    Session,
    mapped_column,
    object_session,
)

Step = tuple[str, int]
STEPS = (
    "set", "add", "set", "add", "sql", "delete", "flush", "commit", "commit", "rollback", "close", "get", "get",
    "nested", "nested that fails", "begin", "begin that fails", "expunge all", "connection commits",
    "driver commits", "connection's savepoint", "twice the same", "with the session",
)  # fmt: skip


class Failed(Exception):
    """The function fails."""


def history(dice: random.Random) -> list[Step]:
    """Some steps, each with a number of its own; one function in six fails at last."""
    steps = [(dice.choice(STEPS), number) for number in range(1, dice.randint(2, 12))]
    return [*steps, ("fail", 0)] if dice.random() < 1 / 6 else steps


def play(steps: list[Step], row: Any, session: Any) -> None:
    """Do the steps on a row of a session; rows that are added have numbers from `1000 * row.id` on."""
    cls, key = type(row), row.id
    for step, number in steps:
        other = cls(id=1000 * key + number, status="added", count=number)
        if step == "set":
            row.count = number
        elif step == "add":
            session.add(other)
        elif step == "sql":
            session.execute(
                text("UPDATE bill SET status = :said WHERE id = :id"),
                {"said": f"s{number}", "id": key},
            )
        elif step == "delete":
            session.execute(
                delete(cls).where(cls.id > 1000 * key, cls.id < 1000 * key + number)
            )
        elif step in ("flush", "commit", "rollback", "close"):
            getattr(session, step)()
        elif step == "expunge all":
            session.expunge_all()
        elif step == "get":
            row = session.get(cls, key)
        elif step.startswith("nested"):
            try:
                with session.begin_nested():
                    session.add(other)
                    session.flush()
                    if step != "nested":
                        raise Failed
            except Failed:
                pass
        elif step.startswith("begin"):
            session.commit()
            try:
                with session.begin():
                    session.add(other)
                    if step != "begin":
                        raise Failed
            except Failed:
                pass
        elif step.endswith("commits"):
            session.add(other)
            session.flush()
            connection = session.connection()
            (
                connection if step.startswith("connection") else connection.connection
            ).commit()
            session.rollback()  # an ordinary session asks for it
        elif step == "connection's savepoint":
            with session.connection().begin_nested():
                session.connection().execute(
                    text("UPDATE bill SET status = 'inner' WHERE id = :id"), {"id": key}
                )
        elif step == "twice the same":
            session.add(cls(id=key, status="again", count=0))
            try:
                session.expunge(row) if object_session(row) is session else None
                session.flush()
            except IntegrityError:
                session.rollback()
        elif step == "with the session":
            with session as again:
                again.add(other)
                again.commit()
        elif step == "fail":
            raise Failed


class Base(DeclarativeBase):
    """Of the ordinary model."""


class Plain(Base):
    """As the shop's Bill."""

    __tablename__ = "bill"
    id: Mapped[int] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(default="open")
    count: Mapped[int] = mapped_column(default=0)


Rows = list[tuple[int, str, int]]


class Ordinary:
    """An ordinary database of its own."""

    def __init__(self) -> None:
        self.engine: Engine = create_engine("sqlite://")
        # As SQLAlchemy's page on SQLite says: without it a savepoint may be the transaction.
        event.listen(
            self.engine, "connect", lambda raw, _: setattr(raw, "isolation_level", None)
        )
        event.listen(
            self.engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN")
        )
        Base.metadata.create_all(self.engine)

    def after(
        self, steps: list[Step], key: int, do: Callable[..., None] = play
    ) -> Rows | None:
        """The rows once the steps are done and what is left is committed; None where an ordinary session refuses."""
        with Session(self.engine) as session:
            session.execute(delete(Plain))
            session.add(Plain(id=key))
            session.commit()
        with Session(self.engine, expire_on_commit=False) as session:
            row = session.get(Plain, key)
            session.commit()
            try:
                do(steps, row, session)
                session.commit()
            except Failed:
                return [(key, "open", 0)]  # nothing of a task that fails
            except Exception:  # noqa: BLE001  whatever it is: no ordinary function does so
                return None
        with Session(self.engine) as session:
            return [
                (r.id, r.status, r.count)
                for r in session.scalars(select(Plain).order_by(Plain.id))
            ]
