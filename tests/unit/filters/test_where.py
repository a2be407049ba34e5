"""A condition of SQLAlchemy as a filter: the rows of the Q text that says the same, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from q_models import Base, Customer, Level, Order
from sqlalchemy.orm import DeclarativeBase, Mapped, aliased, mapped_column
from sqlmodel import Session, create_engine

from jittask_prefect import now, today
from jittask_prefect.errors import FilterError
from jittask_prefect.filters.expression import parse
from jittask_prefect.filters.where import Where, read

ZONE = ZoneInfo("Asia/Shanghai")
NOW = datetime(2026, 3, 10, 18, 30, tzinfo=UTC)  # 11 March, 02:30 in Shanghai
ORDER: Any = Order
CUSTOMER: Any = Customer
HELPERS = Path(__file__).parents[2] / "helpers"


def rows() -> list[Any]:
    """Each field as NULL, and with values on both sides of every comparison below."""
    made: list[Any] = [Customer(id=1, name="Ann", age=30), Customer(id=2, age=70)]
    texts = [None, "a", "ab", "b", ""]
    days = [None, date(2026, 3, 10), date(2026, 3, 11), date(2026, 4, 1)]
    times = [
        None,
        datetime(2026, 3, 11, 2, 29),
        datetime(2026, 3, 11, 2, 30),
        datetime(2026, 3, 11, 4, 30, 1),
    ]
    for n in range(40):
        at = times[n % 4]
        made.append(
            Order(
                id=n,
                text=texts[n % 5],
                level=None if n % 7 == 0 else n % 4,
                active=[None, True, False][n % 3],
                rank=[None, Level.LOW, Level.HIGH][n // 3 % 3],
                due=days[n // 2 % 4],
                at=at,
                customer_id=[None, 1, 2, 3][n // 4 % 4],
            )
        )

    return made


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all(rows())
        session.commit()
        yield session


def found(session: Session, where: Any, instant: datetime = NOW) -> set[Any]:
    condition = where.condition(Order, instant, ZONE)
    return set(session.execute(sa.select(ORDER.id).where(condition)).scalars())


PAIRS: list[tuple[Any, str]] = [
    (ORDER.text == "a", "Q('text', '=', 'a')"),
    (ORDER.text != "a", "Q('text', '!=', 'a')"),
    (ORDER.text.is_(None), "Q('text', 'isnull', 1)"),
    (ORDER.text.is_not(None), "Q('text', 'isnull', 0)"),
    (ORDER.text.in_({"a", "b"}), "Q('text', 'in', ['a', 'b'])"),
    (ORDER.text.not_in(["a", "b"]), "Q('text', 'nin', ['a', 'b'])"),
    (ORDER.text.in_([]), "Q('text', 'in', [])"),
    (ORDER.text.not_in([]), "Q('text', 'nin', [])"),
    (ORDER.level > 1, "Q('level', '>', 1)"),
    (ORDER.level.between(1, 2), "Q('level', 'range', [1, 2])"),
    (ORDER.active, "Q('active', '=', True)"),
    (~ORDER.active, "Q('active', '=', False)"),
    (ORDER.active == sa.true(), "Q('active', '=', True)"),
    (ORDER.rank == Level.LOW, "Q('rank', '=', 'low')"),
    (ORDER.rank.in_([Level.LOW, Level.HIGH]), "Q('rank', 'in', ['low', 'high'])"),
    (ORDER.due < today(), "Q('due', '<', Q.today())"),
    (ORDER.due == today(days=-1), "Q('due', '=', Q.today(days=-1))"),
    (ORDER.due.in_([today(), today(days=-1)]), "Q('due', 'in', [Q.today(), Q.today(days=-1)])"),
    (ORDER.at >= now(), "Q('at', '>=', Q.now())"),
    (ORDER.at > now(hours=2), "Q('at', '>', Q.now(hours=2))"),
    (now() > ORDER.at, "Q('at', '<', Q.now())"),
    (ORDER.at.between(now(), now(hours=2)), "Q('at', 'range', [Q.now(), Q.now(hours=2)])"),
    (lambda: ORDER.customer.has(CUSTOMER.name == "Ann"), "Q('customer__name', '=', 'Ann')"),
    (lambda: ORDER.customer.has(CUSTOMER.age > 40), "Q('customer__age', '>', 40)"),
]  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS, ids=[text for _, text in PAIRS])
def test_the_rows_of_a_condition_are_those_of_the_q_text(
    session: Session, pair: tuple[Any, str]
) -> None:
    condition, text = pair
    wanted = found(session, parse(text))
    assert found(session, read(condition, Order)) == wanted
    assert wanted or text == "Q('text', 'in', [])"  # else the pair shows nothing


def _joined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.tuples(st.just("&"), inner, inner),
        st.tuples(st.just("|"), inner, inner),
        st.tuples(st.just("~"), inner),
    )


@settings(max_examples=80, deadline=None, derandomize=True)
@given(tree=st.recursive(st.sampled_from(range(len(PAIRS) - 2)), _joined, max_leaves=6))
def test_joined_conditions_select_what_the_joined_q_text_selects(
    session: Session, tree: Any
) -> None:
    def built(node: Any) -> tuple[Any, str]:
        match node:
            case ("~", inner):
                condition, text = built(inner)
                return ~condition, f"~({text})"
            case ("&", left, right):
                (a, one), (b, two) = built(left), built(right)
                return a & b, f"({one}) & ({two})"
            case ("|", left, right):
                (a, one), (b, two) = built(left), built(right)
                return a | b, f"({one}) | ({two})"
            case _:
                return PAIRS[node]

    condition, text = built(tree)
    assert found(session, read(condition, Order)) == found(session, parse(text))


def test_moving_times_are_bound_anew_at_each_look(session: Session) -> None:
    where = read((ORDER.at > now(hours=1)) & (ORDER.due >= today()), Order)
    later = datetime(2026, 3, 12, 18, 30, tzinfo=UTC)
    compiled = where.compiled(Order, NOW, ZONE)
    assert len(compiled.moments) == 2
    values = {name: value(later) for name, value in compiled.moments.items()}
    assert sorted(values.values(), key=str) == [
        date(2026, 3, 13),
        datetime(2026, 3, 13, 3, 30),
    ]

    query = sa.select(ORDER.id).where(compiled.sql)
    assert session.execute(query, values).scalars().all() == []
    assert set(session.execute(query).scalars()) == found(session, where) != set()


def test_two_conditions_in_one_statement_keep_their_values(session: Session) -> None:
    """Parameters of both are named by what they mean, so that neither takes the other's."""
    one, two = read(ORDER.text == "a", Order), read(ORDER.text == "b", Order)
    moving = read(ORDER.at > now(hours=2), Order), read(ORDER.at > now(hours=-9), Order)
    asked = [w.condition(Order, NOW, ZONE) for w in (one, two, *moving)]
    for n, where in enumerate((one, two, *moving)):
        records = session.execute(sa.select(ORDER.id, *asked)).all()
        assert {r[0] for r in records if r[n + 1]} == found(session, where)


# Fields, parts


def test_fields_are_the_attributes_that_are_compared() -> None:
    where = read(
        (ORDER.text == "a") & (ORDER.due < today()) & (ORDER.text != "b"), Order
    )
    assert where.own_fields == ("text", "due")
    assert where.fields == {"text", "due"}
    assert not where.follows_relationships and not where.empty
    assert [c.key for c in where.columns(Order)] == ["text", "due"]


def test_a_condition_over_related_rows_says_so() -> None:
    where = read(lambda: ORDER.customer.has(CUSTOMER.age > 40), Order)
    assert where.follows_relationships
    assert where.fields == {"customer_id"}


def test_parts_are_the_conditions_joined_by_and() -> None:
    where = read((ORDER.text == "a") & ((ORDER.level > 1) | ORDER.active), Order)
    assert [(part.text, part.own_fields) for part in where.parts] == [
        ("q_order.text = 'a'", ("text",)),
        ("q_order.level > 1 OR q_order.active", ("level", "active")),
    ]
    one = read(ORDER.text == "a", Order)
    assert [part.text for part in one.parts] == ["q_order.text = 'a'"]


def test_the_clock_of_the_database_is_a_note() -> None:
    (note,) = read(ORDER.at > sa.func.now(), Order).notes
    assert note.startswith("func.now() is the clock of the database")
    assert read(ORDER.at > now(), Order).notes == ()


# What is refused: the value found, and what to write instead


def refused(given: Any, model: type = Order) -> str:
    with pytest.raises(FilterError) as caught:
        read(given, model)
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (ORDER.text is None, r"found False: Python has evaluated `is`.*\.is_\(None\)"),
        (not ORDER.active, "found False: Python has evaluated"),
        ((ORDER.text == "a", ORDER.level > 1), "found a tuple of conditions; allowed: & for and"),
        (ORDER.text, r"found q_order\.text, which is no condition"),
        (ORDER.level.desc(), r"found q_order\.level DESC, which is no condition"),
        (sa.func.row_number().over() == 1, r"found row_number\(\) OVER \(\), a window function"),
        (
            lambda: ORDER.customer_id.in_(sa.select(sa.select(CUSTOMER.id).cte("c").c.id)),
            "found a CTE",
        ),
        (sa.text("level > 1"), r"found text\(\), which hides its columns"),
        (ORDER.active & sa.text("level > 1"), r"found text\('level > 1'\), which hides"),
        (3, "found 3 of type int; allowed: a condition of SQLAlchemy"),
        (Order, "found the class Order"),
        (lambda: "Q(text='a')", "found \"Q.text='a'.\" of type str"),
        (lambda row: row.active, "found a function that fails: TypeError.*without parameters"),
        (lambda: (ORDER.level > 1) and ORDER.active, r"found a function that fails: TypeError: Boolean value.*& for and"),
        (lambda: 1 / 0, "found a function that fails: ZeroDivisionError"),
        (CUSTOMER.age > 40, r"found q_customer\.age, a column of another model; allowed: columns of Order"),
        (ORDER.active & (CUSTOMER.age > 40), "a column of another model"),
        (aliased(Order).active, r"active, a column of another model"),
        (ORDER.level == sa.bindparam("n"), "found the parameter n, whose value is not known yet"),
        (ORDER.text > now(), r"found now\(\) beside a column of"),
        (ORDER.at > now(hours=1.5), r"found now\(hours=1\.5\); allowed: whole numbers"),
        (ORDER.at > now(years=2000), "at most 1,000 years away"),
        (sa.func.foo(now()) > ORDER.level, r"found now\(\) where SQLAlchemy knows no type; allowed:.*cast\(now\(\), DateTime\)"),
        (ORDER.level.in_(range(1001)), "found 1,001 values; allowed: at most 1,000"),
        (ORDER.level == 2**65, "found 36893488147419103232; allowed: a whole number"),
        (ORDER.text == "a" * 20_000, "characters of SQL; allowed: at most 20,000"),
    ],
)  # fmt: skip
def test_bad_conditions_are_refused_with_the_right_spelling(
    given: Any, said: str
) -> None:
    assert re.search(said, refused(given)), refused(given)


def test_a_relationship_or_subquery_needs_a_lambda() -> None:
    for made in (
        ORDER.customer.has(CUSTOMER.age > 40),
        sa.exists().where(CUSTOMER.id == ORDER.customer_id),
        ORDER.customer_id.in_(sa.select(CUSTOMER.id)),
    ):
        assert "used while the module is imported; allowed: a lambda" in refused(made)


def test_an_exists_that_does_not_name_the_model_is_refused() -> None:
    found = refused(lambda: sa.exists().where(CUSTOMER.age > 40))
    assert "an EXISTS that asks the same of every row" in found
    assert "exists().where(Other.x == Order.y)" in found


def test_a_subquery_over_the_model_itself_needs_an_alias() -> None:
    same = refused(lambda: sa.exists(sa.select(ORDER.id).where(ORDER.level > 1)))
    assert "allowed: an alias for its rows: other = aliased(Order)" in same


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (lambda: sa.exists().where(CUSTOMER.id == ORDER.customer_id, CUSTOMER.age > 40), "Q('customer__age', '>', 40)"),
        (lambda: ORDER.customer_id.in_(sa.select(CUSTOMER.id).where(CUSTOMER.age > 40)), "Q('customer__age', '>', 40)"),
        (
            lambda: sa.select(CUSTOMER.age).where(CUSTOMER.id == ORDER.customer_id).scalar_subquery() > 40,
            "Q('customer__age', '>', 40)",
        ),
    ],
)  # fmt: skip
def test_subqueries_that_are_allowed_select_the_right_rows(
    session: Session, given: Any, text: str
) -> None:
    where = read(given, Order)
    wanted = found(session, parse(text))
    assert found(session, where) == wanted != set()
    # As a column of a SELECT beside others, as the hook asks.
    asked = sa.select(ORDER.id, where.condition(Order, NOW, ZONE).label("met"))
    assert {r.id for r in session.execute(asked) if r.met} == wanted


def test_an_alias_of_the_model_in_a_subquery_is_another_row(session: Session) -> None:
    other: Any = aliased(Order)
    where = read(lambda: sa.exists().where(other.parent_id == ORDER.id), Order)
    assert where.follows_relationships
    assert found(session, where) == set()


def test_a_condition_of_another_task_s_model_is_refused() -> None:
    where = read(CUSTOMER.age > 40, Customer)
    with pytest.raises(FilterError, match="a condition over Customer"):
        where.check(Order)


# Inheritance


class Tree(DeclarativeBase):
    pass


class Person(Tree):
    __tablename__ = "w_person"
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    active: Mapped[bool] = mapped_column("is_active", default=True)
    __mapper_args__: ClassVar[Any] = {
        "polymorphic_on": "kind",
        "polymorphic_identity": "person",
    }


class Employee(Person):
    __tablename__ = "w_employee"
    id: Mapped[int] = mapped_column(sa.ForeignKey("w_person.id"), primary_key=True)
    level: Mapped[int]
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "employee"}


class Manager(Person):
    grade: Mapped[int | None]
    __mapper_args__: ClassVar[Any] = {"polymorphic_identity": "manager"}


@pytest.fixture
def people() -> Iterator[Session]:
    engine = sa.create_engine("sqlite://")
    Tree.metadata.create_all(engine)
    with Session(engine) as session:
        session.add_all([
            Employee(id=1, level=1), Employee(id=2, level=5, active=False),
            Employee(id=3, level=5), Manager(id=4, grade=2), Person(id=5),
        ])  # fmt: skip
        session.commit()
        yield session


@pytest.mark.parametrize(
    "condition",
    [
        (Employee.active.is_(True)) & (Employee.level > 2),
        (Person.active.is_(True)) & (Employee.level > 2),
        (Person.__table__.c.is_active) & (Employee.__table__.c.level > 2),
    ],
)
def test_a_joined_subclass_sees_its_base_s_columns_without_more_rows(
    people: Session, condition: Any
) -> None:
    where = read(condition, Employee)
    assert where.own_fields == ("active", "level")
    met = where.condition(Employee, NOW, ZONE)
    assert people.execute(sa.select(Employee.id).where(met)).scalars().all() == [3]
    asked = people.execute(sa.select(Employee.id, met.label("met")))
    assert [(r.id, bool(r.met)) for r in asked] == [(1, False), (2, False), (3, True)]


def test_attributes_of_a_subclass_or_sibling_are_another_model_s() -> None:
    assert "found Manager.grade; allowed: attributes of Employee" in refused(
        Manager.grade > 1, Employee
    )
    assert "found Manager.grade; allowed: attributes of Person" in refused(
        Manager.grade > 1, Person
    )
    assert isinstance(read(Manager.grade > 1, Manager), Where)
