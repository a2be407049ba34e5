"""The text of a condition: every value is shown, and each process writes the same text."""

from __future__ import annotations

import enum
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from q_models import Customer, Level, Order

from jittask_prefect import now, today
from jittask_prefect.errors import FilterError
from jittask_prefect.filters.where import read

ORDER: Any = Order
CUSTOMER: Any = Customer
HELPERS = Path(__file__).parents[2] / "helpers"


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (ORDER.text == "a'b", "q_order.text = 'a''b'"),
        (ORDER.text.in_({"b", "c", "a"}), "q_order.text IN ('a', 'b', 'c')"),
        (ORDER.rank == Level.HIGH, "q_order.rank = 'HIGH'"),
        (ORDER.at > now(hours=2), "q_order.at > now(hours=2)"),
        (ORDER.due < today(), "q_order.due < today()"),
        (ORDER.due < date(2026, 3, 1), "q_order.due < '2026-03-01'"),
        (ORDER.text.is_(None) & (ORDER.level > 1), "q_order.text IS NULL AND q_order.level > 1"),
        (ORDER.text == "a\n\x1b", r"q_order.text = e'a\n\x1b'"),
        (
            lambda: ORDER.customer.has(CUSTOMER.age > 40),
            "EXISTS (SELECT 1 FROM q_customer WHERE q_order.customer_id = q_customer.id AND q_customer.age > 40)",
        ),
    ],
)  # fmt: skip
def test_the_text_shows_every_value(condition: Any, text: str) -> None:
    assert read(condition, Order).text == text


def test_the_text_is_the_same_in_every_process() -> None:
    """Sets have another order under each seed of the hash."""
    program = (
        "from q_models import Order as ORDER, Customer as CUSTOMER; from jittask_prefect.filters.where import read;"
        "from jittask_prefect import now; import sqlalchemy as sa;"
        "c = lambda: ORDER.text.in_({'a', 'bb', 'c', 'd'}) & ORDER.customer.has(CUSTOMER.name.in_({'x', 'y', 'z'})) & (ORDER.at > now());"
        "print(read(c, ORDER).text)"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(HELPERS)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(texts) == 1
    assert "IN ('a', 'bb', 'c', 'd')" in texts.pop()


class Odd:
    """A value whose text holds its address."""


class Colour(enum.StrEnum):
    RED = "r"


def test_a_value_without_a_lasting_text_is_refused() -> None:
    with pytest.raises(FilterError, match="whose text may differ between processes"):
        read(ORDER.text == Odd(), Order)


def test_enums_are_shown_by_name() -> None:
    assert read(ORDER.text == Colour.RED, Order).text == "q_order.text = 'RED'"
