"""`Model.query(…)` and `Model.get(…)`, as JitTask's models have them; in the function's own session."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy import inspect as sa_inspect
from sqlmodel import Session

from jittask_prefect.elements.original.jit_rows import OF_FUNCTION, in_style
from jittask_prefect.elements.row_session import ROW_SESSION
from jittask_prefect.errors import ArgumentError
from jittask_prefect.filters.columns import columns
from jittask_prefect.filters.expression import parse
from jittask_prefect.schedule import clock
from jittask_prefect.validation import quoted

if TYPE_CHECKING:
    from jittask_prefect.elements.app import App

_SESSIONS: ContextVar[dict[tuple[int, str], Session] | None] = ContextVar(
    "jittask_function_sessions", default=None
)
_ORDERS = {1: False, -1: True, "asc": False, "desc": True}
ORDER_TEXT = "a field, -field, or [field, 1 or -1]"


class QueryResult:
    """The rows of a page, and how many rows there are on all pages.

    Attributes:
        rowDatas: The rows.
        totalCount: The number of rows that satisfy the filter.
    """

    def __init__(self, rows: list[Any], total: int) -> None:
        self.rowDatas, self.totalCount = rows, total

    def __getitem__(self, name: str) -> Any:
        if name in ("rowDatas", "totalCount"):
            return getattr(self, name)
        raise KeyError(f"{name!r}; a result has rowDatas and totalCount")

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rowDatas)

    def __len__(self) -> int:
        return len(self.rowDatas)


def give_queries(app: App, name: str, model: type[Any]) -> None:
    """Give a model's class `query` and `get`, unless the class has such names of its own."""

    def query(
        cls: type[Any],
        filter: object = None,
        orderList: Sequence[Any] | None = None,
        fieldList: Sequence[str] | None = None,
        page: int = 1,
        size: int | None = None,
        level: int | None = None,
    ) -> QueryResult:
        """The rows that satisfy a Q expression, or its text; all where absent."""
        reader = _Reader(app, name, cls, filter, orderList)
        return reader.page(fieldList, page, size)

    def get(
        cls: type[Any], filter: object = None, orderList: Sequence[Any] | None = None
    ) -> Any:
        """The first row that satisfies a Q expression; None where there is none."""
        return next(
            iter(_Reader(app, name, cls, filter, orderList).page(None, 1, 1)), None
        )

    for function in (query, get):
        if not hasattr(model, function.__name__):
            setattr(model, function.__name__, classmethod(function))


class _Reader:
    def __init__(
        self,
        app: App,
        name: str,
        model: type[Any],
        filter: object,
        order: Sequence[Any] | None,
    ) -> None:
        self.app, self.name, self.model = app, name, model
        self.columns = columns(sa_inspect(model))
        text = "" if filter is None else str(filter)
        self.condition = parse(text).condition(model, clock.now(), app.zone)
        keys = [key.key for key in sa_inspect(model).primary_key]
        attributes = [
            sa_inspect(model).get_property_by_column(c).key
            for c in sa_inspect(model).primary_key
        ]
        self.order = [
            *map(self._order, order or ()),
            *(getattr(model, key) for key in attributes or keys),
        ]

    def _order(self, given: Any) -> Any:
        field, down = given, False
        if isinstance(given, str) and given.startswith("-"):
            field, down = given[1:], True
        elif isinstance(given, list | tuple) and len(given) == 2:
            field, sign = given
            known = sign.lower() if isinstance(sign, str) else sign
            if known not in _ORDERS:
                raise ArgumentError(f"orderList {quoted(given)}; allowed: {ORDER_TEXT}")

            down = _ORDERS[known]

        self._known("orderList", [field])
        attribute = getattr(self.model, field)
        return attribute.desc() if down else attribute

    def _known(self, argument: str, fields: Sequence[Any]) -> None:
        for field in fields:
            if not isinstance(field, str) or field not in self.columns:
                known = ", ".join(self.columns)
                raise ArgumentError(
                    f"{argument} {quoted(field)}; {self.name} has the fields {known}"
                )

    def page(
        self, fields: Sequence[str] | None, page: int, size: int | None
    ) -> QueryResult:
        """The rows of a page; rows are read whole, whichever fields are named."""
        self._known("fieldList", fields or ())
        for name, value in (("page", page), ("size", 1 if size is None else size)):
            if not isinstance(value, int) or value < 1:
                raise ArgumentError(
                    f"{name} {quoted(value)}; allowed: a number from 1 on"
                )

        statement = select(self.model).where(self.condition).order_by(*self.order)
        if size is not None:
            statement = statement.limit(size).offset((page - 1) * size)

        with _session(self.app, self.app.database_of(self.name)) as session:
            rows = list(session.scalars(statement))
            counted = select(func.count()).select_from(self.model).where(self.condition)
            total = len(rows) if size is None else session.scalar(counted)

        return QueryResult(in_style(self.app, rows), int(total or 0))


@contextmanager
def _session(app: App, database: str) -> Iterator[Session]:
    """The session of the function that runs: a row task's, or one that lasts as long as the function; else a short one."""
    current, kept = ROW_SESSION.get(), _SESSIONS.get()
    if current is not None and current.get_bind().engine is app.engine(database):
        yield current
    elif kept is not None:
        key = id(app), database
        if key not in kept:
            made = Session(app.engine(database), expire_on_commit=False)
            made.info[OF_FUNCTION] = True
            kept[key] = made
        yield kept[key]
    else:
        with Session(app.engine(database), expire_on_commit=False) as session:
            yield session
            session.expunge_all()


@contextmanager
def function_sessions() -> Iterator[None]:
    """Keep the sessions of `query` and `get` until the end of a function: its changes commit with its success."""
    kept: dict[tuple[int, str], Session] = {}
    token = _SESSIONS.set(kept)
    try:
        yield
        for session in kept.values():
            session.commit()
    finally:
        _SESSIONS.reset(token)
        for session in kept.values():
            session.close()
