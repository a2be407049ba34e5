"""A marked function → the configuration that an `e.json` would hold, checked by the same validator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jittask_prefect.elements.decorators import Kind, Mark
from jittask_prefect.errors import ConfigError
from jittask_prefect.filters.where import Where


@dataclass(frozen=True)
class Declared:
    """A task that a decorator declares.

    Attributes:
        full_name: The element's full name, `tasks.RemindPatient`.
        kind: `rows`, `scheduled` or `code`.
        config: What an e.json of the task would say, validated.
        where: The condition of a task of rows, in the place of a Q filter; None where `config["filter"]` is a Q
            expression, or absent.
        source: The place for people: `clinic/tasks.py, line 12`.
    """

    full_name: str
    kind: Kind
    config: dict[str, Any]
    where: Where | None
    source: str


def full_name(mark: Mark) -> str:
    """The full name of a mark's element: `tasks.RemindPatient` of `remind_patient`.

    Raises:
        ConfigError: The function has no such name, and the mark names none.
    """
    raise NotImplementedError


def source(mark: Mark, root: Path | None = None) -> str:
    """The place of a mark for people: `clinic/tasks.py, line 12`, relative to a folder."""
    raise NotImplementedError


def by_name(
    marks: Iterable[Mark], root: Path | None = None
) -> tuple[dict[str, Mark], dict[str, ConfigError]]:
    """The marks by full name, and the errors of names that two functions share; a mark without a name by its source."""
    raise NotImplementedError


def declared(
    mark: Mark, model_names: Mapping[type, str], root: Path | None = None
) -> Declared:
    """The element that a mark declares. Called when all models are loaded: a lambda as `where` is evaluated here.

    Args:
        mark: The mark.
        model_names: By mapped class, the full name of its element.
        root: The folder that places are relative to.

    Raises:
        ConfigError: With every problem; each names file, line and argument.
    """
    raise NotImplementedError


def argument_of(key: str, kind: Kind) -> str:
    """The argument that says what a key of an e.json says: `timerCfg.startOffset.time` → `offset`."""
    raise NotImplementedError
