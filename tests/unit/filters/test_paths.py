"""A path's column, as SQL gives its value for each row."""

from __future__ import annotations

import pytest
from q_models import Base, Country, Customer, Order
from sqlalchemy import create_engine, select
from sqlmodel import Session

from jittask_prefect.errors import FilterError
from jittask_prefect.filters.paths import single_column, value_of

VALUES = {
    "level": [7, None, 7, 9],
    "customer__age": [30, None, None, 30],
    "customer__country__code": ["DE", None, None, "DE"],
    "parent__customer__name": [None, "Ann", None, None],
}


@pytest.fixture
def session() -> Session:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    made = Session(engine)
    made.add(Country(id=1, code="DE"))
    made.add(Customer(id=1, name="Ann", age=30, country_id=1))
    made.add(Order(id=1, level=7, customer_id=1))
    made.add(Order(id=2, parent_id=1))
    made.add(Order(id=3, level=7, customer_id=99))
    made.add(Order(id=4, level=9, customer_id=1))
    made.commit()
    return made


@pytest.mark.parametrize("text", VALUES)
def test_the_value_of_each_row(session: Session, text: str) -> None:
    found = value_of(single_column(Order, text), Order)
    query = select(Order.id, found).order_by(Order.id)  # type: ignore[arg-type]
    records = session.execute(query).all()
    assert [value for _key, value in records] == VALUES[text]


@pytest.mark.parametrize(
    "text", ["", "a b", "customer__", "_x", "customer.age", "a__" * 8 + "a"]
)
def test_no_path(text: str) -> None:
    with pytest.raises(FilterError, match="relationship__column"):
        single_column(Order, text)


def test_a_relationship_to_many_rows() -> None:
    with pytest.raises(FilterError, match=r"Customer\.orders, which leads to many"):
        single_column(Customer, "orders__level")
