"""`jittask doctor` looks for what ends a connection that stays open and answers nothing."""

from __future__ import annotations

import pytest
from sqlalchemy.engine import make_url

from jittask_prefect.cli.doctor import _timeouts

PG, MY = (
    "postgresql+psycopg://shop@db.internal/shop",
    "mysql+pymysql://shop@db.internal/shop",
)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (PG, "tcp_user_timeout"),
        (MY, "read_timeout"),
        (f"{PG}?application_name=shop", "keepalives_idle"),
        (f"{PG}?tcp_user_timeout=60000", ""),
        (f"{PG}?keepalives_idle=30", ""),
        (f"{MY}?read_timeout=600", ""),
        (PG.replace("db.internal", "127.0.0.1"), ""),
        ("sqlite:///shop.db", ""),
    ],
)
def test_a_distant_database_without_timeouts_is_warned_of(url: str, said: str) -> None:
    """The warning names the keys to add; a database on this machine needs none."""
    found = [f.text for f in _timeouts("the app's database", make_url(url))]
    assert len(found) == bool(said) and all(
        said in text and "db.internal" in text for text in found
    )
