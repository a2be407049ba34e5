"""Rows as JitTask's code has them (`"rowStyle": "jit"`): a view of a mapped instance, whose fields have `.value`.

A view holds no values of its own: it reads and writes the mapped instance, which is `view.row`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect as sa_inspect
from sqlalchemy.orm import Mapper, object_session
from sqlalchemy.orm.exc import DetachedInstanceError

from jittask_prefect.elements.original.jit_values import Compared, plain
from jittask_prefect.elements.row_session import RowSession
from jittask_prefect.errors import JittaskError

if TYPE_CHECKING:
    from jittask_prefect.elements.app import App

OF_FUNCTION = "jittask_of_function"
"""In the `info` of a session that `query` keeps until the end of a function."""


class JitField(Compared):
    """A field of a row."""

    __slots__ = ("_name", "_row")

    def __init__(self, row: Any, name: str) -> None:
        self._row, self._name = row, name

    @property
    def _shown(self) -> str:
        return f"{type(self._row).__name__}.{self._name}"

    @property
    def value(self) -> Any:
        """The value; setting it changes the row."""
        return getattr(self._row, self._name)

    @value.setter
    def value(self, value: Any) -> None:
        setattr(self._row, self._name, plain(value))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # asked by copy and pickle, before the field is whole
            raise AttributeError(name)
        raise AttributeError(
            f"{self._shown} is a field and has no {name!r}; its value may have: write {self._shown}.value.{name}"
        )


class JitRow:
    """A view of a row.

    Args:
        app: The app.
        row: The mapped instance.
    """

    __slots__ = ("_app", "_mapper", "row")

    row: Any

    def __init__(self, app: App, row: Any) -> None:
        mapper: Mapper[Any] = sa_inspect(type(row))
        for name, value in (("_app", app), ("_mapper", mapper), ("row", row)):
            object.__setattr__(self, name, value)

    def save(self) -> None:
        """Write the row's changes: in a row's task they commit with the task, else at once."""
        session = object_session(self.row)
        if session is not None:
            session.flush()
            # The session of `query` in a scheduled function: no lock is held meanwhile.
            if session.info.get(OF_FUNCTION):
                session.commit()
            return

        with self._app.session(self._app.database_of_row(self.row)) as new:
            new.add(self.row)
            new.flush()
            if not isinstance(new, RowSession):
                new.commit()
                new.refresh(self.row)

    def __copy__(self) -> JitRow:
        return JitRow(self._app, self.row)

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(
            "a view of a row does not pickle; its mapped instance, view.row, may"
        )

    def __getattr__(self, name: str) -> Any:
        if name in self.__slots__:
            raise AttributeError(name)

        row = self.row
        if name in self._mapper.column_attrs:
            return JitField(row, name)
        if name in self._mapper.relationships:
            try:
                return in_style(self._app, getattr(row, name))
            except DetachedInstanceError:
                raise JittaskError(
                    f"{type(row).__name__}.{name} was not loaded, and the row's session is over: "
                    "read it inside the function, or in `with app.session()`"
                ) from None

        static = inspect.getattr_static(type(row), name, None)
        if isinstance(static, FunctionType) and not name.startswith("_"):
            return MethodType(static, self)
        if isinstance(static, property) and static.fget and not name.startswith("_"):
            return static.fget(self)

        return getattr(row, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.row, name, plain_row(plain(value)))

    def __eq__(self, other: object) -> bool:
        return plain_row(other) is self.row

    def __hash__(self) -> int:
        return id(self.row)

    def __repr__(self) -> str:
        return f"<view of {self.row!r}>"


def in_style(app: App, value: Any) -> Any:
    """A row, or a list of rows, as the app's code gets it: the mapped instance, or a view of it.

    Args:
        app: The app; its `rowStyle` decides.
        value: A row, a list of rows, or None.
    """
    if app.cfg.rowStyle != "jit" or value is None or isinstance(value, JitRow):
        return value
    if isinstance(value, list | tuple | set):
        return [in_style(app, each) for each in value]
    return (
        JitRow(app, value) if sa_inspect(value, raiseerr=False) is not None else value
    )


def plain_row(value: Any) -> Any:
    """The mapped instance of a view; of a list the instances of its views; anything else as it is."""
    if isinstance(value, JitRow):
        return value.row
    if isinstance(value, list):
        return [plain_row(each) for each in value]
    return value


def plain_rows(value: Any) -> Any:
    """A `rowObj` with mapped instances in the place of views, and values in that of objects with a value."""
    found = plain(value)
    if not isinstance(found, Mapping):
        return plain_row(found)
    return {key: plain_rows(each) for key, each in found.items()}
