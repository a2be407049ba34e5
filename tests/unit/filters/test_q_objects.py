"""`Q(…)` in Python code has the text that the parser reads."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import Enum

import pytest

from jittask_prefect.errors import FilterError
from jittask_prefect.filters.expression import parse
from jittask_prefect.filters.q_objects import Q


class Kind(Enum):
    BIG = 1


WRITTEN = {
    "Q('age', '>', 18)": Q("age", ">", 18),
    "Q(status='active', level__gte=3)": Q(status="active", level__gte=3),
    "(Q('a', '=', 1)) & (Q(b=2))": Q("a", "=", 1) & Q(b=2),
    "((Q(a=1)) | (Q(b=2))) & (Q(c=3))": (Q(a=1) | Q(b=2)) & Q(c=3),
    "~(Q('a', '=', 1))": ~Q("a", "=", 1),
    "~Q(a=1)": ~Q(a=1),
    "Q(Q('a', '=', 1), Q.AND, Q('b', 'in', [1, 2]))": Q(
        Q("a", "=", 1), Q.AND, Q("b", "in", (1, 2))
    ),
    "Q('d', '>', '2026-03-02')": Q("d", ">", date(2026, 3, 2)),
    "Q('d', '>', '2026-03-02 09:00:00')": Q("d", ">", datetime(2026, 3, 2, 9)),
    "Q('d', '>=', Q.today(days=-3))": Q("d", ">=", Q.today(days=-3)),
    "Q(d__lt=Q.now(hours=2))": Q(d__lt=Q.now(hours=2)),
    "Q(price='1.50', kind='BIG', gone=None)": Q(
        price=Decimal("1.50"), kind=Kind.BIG, gone=None
    ),
    'Q(name="it\'s")': Q(name="it's"),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_the_text_is_what_the_parser_reads(text: str) -> None:
    assert str(WRITTEN[text]) == text
    assert parse(text).tree == parse(str(WRITTEN[text])).tree


def test_mistakes_name_the_right_spelling() -> None:
    with pytest.raises(FilterError, match="& for and"):
        bool(Q(a=1))
    with pytest.raises(FilterError, match="a value of type object"):
        Q("a", "=", object())
    with pytest.raises(FilterError, match=r"Q\.AND"):
        Q(Q(a=1), 3)
