"""The database: its engine, its sessions, the base of all models."""

import os
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Session, sessionmaker

ROOT = Path(__file__).parents[1]
URL = os.environ.get("CLINIC_DATABASE_URL", f"sqlite:///{ROOT}/clinic.db")

engine = create_engine(URL)
SessionLocal = sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """The base of all models."""


def get_session() -> Iterator[Session]:
    """A session for one request."""
    with SessionLocal() as session:
        yield session
