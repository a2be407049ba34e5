"""The elements and modules that every app has without a folder of its own, by full name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect as sa_inspect
from sqlmodel import SQLModel

from jittask_prefect.elements.element_log import Log
from jittask_prefect.elements.original.jit_values import DataTypes, GlobalVar
from jittask_prefect.elements.types import (
    DateFieldType,
    Meta,
    NormalService,
    NormalType,
)
from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.schedule.reading import read_timer
from jittask_prefect.schedule.spec import TimerCfg
from jittask_prefect.schedule.timer import Timer

if TYPE_CHECKING:
    from jittask_prefect.elements.loader import Loader

TASK_TYPES: dict[str, type[Meta]] = {
    "tasks.NormalType": NormalType,
    "tasks.DateFieldType": DateFieldType,
}
BUILT_IN: dict[str, Any] = {
    **TASK_TYPES,
    "tasks.Meta": Meta,
    "services.Meta": NormalService,
    "services.NormalType": NormalService,
    "models.NormalType": SQLModel,
}


class NormalModel:
    """The base of models in folders of JitTask; a class that derives from it needs columns to be mapped."""


class NotMapped(ConfigError):
    """A model of JitTask's form, without columns of SQLModel or SQLAlchemy: `check` notes it."""


def refuse_unmapped(module: ModuleType) -> None:
    """Refuse a model file whose only models are JitTask's own, which no table belongs to.

    Raises:
        NotMapped: With the next step.
    """
    classes = [each for each in vars(module).values() if isinstance(each, type)]
    own = [each for each in classes if each.__module__ == module.__name__]
    mapped = [each for each in own if sa_inspect(each, raiseerr=False) is not None]
    bare = [each.__name__ for each in own if issubclass(each, NormalModel)]
    if bare and not mapped:
        found = f"class {bare[0]}(NormalModel) without columns"
        allowed = f"class {bare[0]}(NormalModel, SQLModel, table=True) with columns, or an import of a mapped class"
        raise NotMapped(Problem("", "model.py", found, allowed))


def _timer_of(app: Loader) -> type[Timer]:
    """`Timer` with the zone and the calendars of an app."""

    class AppTimer(Timer):
        def __init__(
            self,
            timerCfg: Mapping[str, object] | TimerCfg,
            calendar: object = None,
            timezone: str | None = None,
        ) -> None:
            cfg = timerCfg
            if not isinstance(cfg, TimerCfg):
                given = cfg if isinstance(cfg, Mapping) else {}
                rows = "startField" in given and "startTime" not in given
                cfg = read_timer(cfg, rows=rows)

            found = app.calendar_for(cfg) if calendar is None else calendar
            super().__init__(cfg, found, timezone or app.timezone)

    AppTimer.__name__ = AppTimer.__qualname__ = "Timer"
    return AppTimer


def _task_names(app: Loader) -> dict[str, Any]:
    return {"Meta": Meta, "BaseTask": Meta, "Timer": _timer_of(app)}


def _variables(app: Loader) -> dict[str, Any]:
    found = GlobalVar(app.timezone)
    return {"GlobalVar": found, "currentTime": found.currentTime}


_NAMES: dict[str, Callable[[Loader], dict[str, Any]]] = {
    "datatypes.Meta": lambda _: {"datatypes": DataTypes()},
    "globals.GlobalVar": _variables,
    "jit.commons.utils.logger": lambda _: {"log": Log()},
    "models.Meta": lambda _: {"BaseModel": NormalModel},
    "models.NormalType": lambda _: {"NormalModel": NormalModel},
    "services.Meta": lambda _: {"Meta": NormalService, "BaseService": NormalService},
    "services.NormalType": lambda _: {"NormalService": NormalService},
    "tasks.DateFieldType": lambda _: {"DateFieldType": DateFieldType},
    "tasks.Meta": _task_names,
    "tasks.NormalType": lambda _: {"NormalType": NormalType},
}
MODULES = tuple(_NAMES)
"""The modules that element code can import, and no folder of an app need have."""


def names_of(app: Loader, module: str) -> dict[str, Any] | None:
    """The names of a module of `MODULES`, or of a built-in element, as an app sees them; None for other modules."""
    if module in _NAMES:
        return _NAMES[module](app)
    if module in app.builtins:
        return {module.rpartition(".")[2]: app.builtins[module]()}
    return None
