"""A condition of SQLAlchemy as the filter of a task: the same face as a Q expression's `Filter`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement

from jittask_prefect.filters.columns import Column
from jittask_prefect.filters.condition import Condition


@dataclass(frozen=True)
class Where:
    """A condition over the rows of a model.

    Attributes:
        model: The mapped class.
        text: The condition with its values, the same in each process.
        fields: The model's attributes that the condition compares.
        follows_relationships: Whether a row of another table decides, too.
        notes: What `check` says of a condition that works.
    """

    model: type
    text: str
    fields: frozenset[str]
    follows_relationships: bool
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[Where, ...]:
        """The parts that a row must all meet, each as a condition."""
        raise NotImplementedError

    def check(self, model: type) -> None:
        """See that the condition is one of the model's.

        Raises:
            FilterError: The condition is another model's.
        """
        raise NotImplementedError

    def condition(
        self, model: type, now: datetime, zone: ZoneInfo
    ) -> ColumnElement[bool]:
        """The condition for `select(model).where(…)`; arguments as of `Filter.condition`."""
        return self.compiled(model, now, zone).sql

    def compiled(self, model: type, now: datetime, zone: ZoneInfo) -> Condition:
        """The condition for statements that are kept, with the moments that change."""
        raise NotImplementedError

    def columns(self, model: type) -> list[Column]:
        """The columns of the model that are compared."""
        raise NotImplementedError
