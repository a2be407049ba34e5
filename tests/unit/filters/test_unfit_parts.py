"""Aggregates, windows and functions whose answers change of themselves stand in no condition over a row."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from q_models import Customer, Order

from jittask_prefect.errors import FilterError
from jittask_prefect.filters.where import read

ORDER: Any = Order
CUSTOMER: Any = Customer
FUNC: Any = sa.func


def refused(given: Any) -> str:
    with pytest.raises(FilterError) as caught:
        read(given, Order)
    return str(caught.value)


AGGREGATES: list[Any] = [
    FUNC.count(ORDER.id) > 3,
    FUNC.COUNT(ORDER.id) > 3,
    FUNC.max(ORDER.level) > 3,
    FUNC.group_concat(ORDER.text) == "a",
    ORDER.active & (FUNC.sum(ORDER.level) > 3),
    FUNC.count(ORDER.id).filter(ORDER.level > 1) > 3,
    FUNC.percentile_cont(0.5).within_group(ORDER.level) > 3,
    sa.literal_column("count(*)") > 3,
    lambda: sa.exists().where(
        CUSTOMER.id == ORDER.customer_id, FUNC.count(CUSTOMER.id) > 3
    ),
]


@pytest.mark.parametrize("given", AGGREGATES)
def test_an_aggregate_is_refused(given: Any) -> None:
    said = refused(given)
    assert "an aggregate, which cannot stand in a WHERE; allowed: a condition" in said
    assert "where(Other.x == Order.y).scalar_subquery()" in said


@pytest.mark.parametrize(
    "given",
    [FUNC.row_number().over() == 1, FUNC.lag(ORDER.level).over() == 1, FUNC.rank() > 1],
)
def test_a_window_function_is_refused(given: Any) -> None:
    assert "a window function, which cannot stand in a WHERE" in refused(given)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (FUNC.random() > 0.5, "random"),
        (FUNC.RAND() > 0.5, "rand"),
        (FUNC.coalesce(ORDER.level, FUNC.random()) > 1, "random"),
        (ORDER.text == FUNC.gen_random_uuid(), "gen_random_uuid"),
        (ORDER.level == sa.Sequence("numbers").next_value(), "next_value"),
        (sa.literal_column("random()") > 0, "random"),
        (FUNC.pg_sleep(3).is_(None), "pg_sleep"),
        (
            lambda: sa.exists().where(
                CUSTOMER.id == ORDER.customer_id, CUSTOMER.age > FUNC.random()
            ),
            "random",
        ),
    ],
)
def test_a_function_that_changes_of_itself_is_refused(given: Any, name: str) -> None:
    said = refused(given)
    assert f"found {name}(), whose answer changes from look to look; allowed: " in said
    assert "into a column, and compare that column" in said


@pytest.mark.parametrize(
    "given",
    [
        lambda: (
            sa.select(FUNC.count(CUSTOMER.id))
            .where(CUSTOMER.id == ORDER.customer_id)
            .scalar_subquery()
            > 3
        ),
        lambda: ORDER.level.in_(
            sa.select(FUNC.max(CUSTOMER.age)).group_by(CUSTOMER.name)
        ),
        lambda: ORDER.level.in_(
            sa.select(CUSTOMER.age)
            .group_by(CUSTOMER.age)
            .having(FUNC.count(CUSTOMER.id) > 1)
        ),
        FUNC.max(ORDER.level, 3) > 3,
        FUNC.lower(ORDER.text) == "count(3) and random()",
        FUNC.coalesce(ORDER.level, 0) > 3,
        FUNC.length(ORDER.text) > 3,
    ],
)
def test_subqueries_and_functions_of_one_row_work(given: Any) -> None:
    assert read(given, Order).text


def test_a_relationship_compared_at_import_needs_a_lambda() -> None:
    for made in (ORDER.customer == None, ORDER.customer != None):  # noqa: E711
        said = refused(made)
        assert "used while the module is imported; allowed: a lambda" in said

    assert read(lambda: ORDER.customer == None, Order).text  # noqa: E711
    assert read(ORDER.customer_id == None, Order).text  # noqa: E711


def test_a_relationship_alone_is_no_condition() -> None:
    for made in (ORDER.customer, lambda: ORDER.customer):
        said = refused(made)
        assert "found Order.customer, a relationship, which is no condition" in said
