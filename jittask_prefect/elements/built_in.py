"""The elements that every app has without a folder of its own, by full name."""

from __future__ import annotations

from typing import Any

from sqlmodel import SQLModel

from jittask_prefect.elements.types import (
    DateFieldType,
    Meta,
    NormalService,
    NormalType,
)

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
