"""The texts of `e.json` and `app.json`: names, paths, titles, each with the form that is allowed."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

from jittask_prefect.errors.printable import has_controls
from jittask_prefect.schedule.zones import zone_name

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
NAME_TEXT = "a letter or _, then up to 63 letters, digits or _"
_HOSTILE = ("{{", "}}", "__prefect_kind")


def _path(text: str, parts: int, example: str) -> str:
    pieces = text.split(".")
    if len(pieces) != parts or not all(NAME.fullmatch(piece) for piece in pieces):
        raise ValueError(f"a name like {example}")
    return text


def clean_text(text: str) -> str:
    if has_controls(text):
        raise ValueError("a text without control characters")
    return text


def safe_text(text: str) -> str:
    """Refuse control characters, and texts that Prefect would resolve or hydrate: placeholders and `__prefect_kind`.

    Source: prefect `deployments/base.py` resolves `{{ … }}` in deployments, `_internal/schemas` hydrates parameters.
    """
    clean_text(text)
    for mark in _HOSTILE:
        if mark in text:
            raise ValueError(f"a text without {mark}, which Prefect would resolve")

    return text


def display_text(text: str) -> str:
    """Refuse a text that is not a line of 1 to 200 characters, without the texts that `safe_text` refuses."""
    one_line = text.strip() and all(ord(c) >= 32 for c in text)
    if not one_line or len(text) > 200 or has_controls(text):
        raise ValueError("one line of 1 to 200 characters, without control characters")
    return safe_text(text)


def _tag(text: str) -> str:
    if text.startswith("app:"):
        raise ValueError(
            "a tag that does not begin with app:, which says whose a deployment is"
        )
    return display_text(text)


def _work_pool(text: str) -> str:
    if any(c in text for c in "/%&<>"):
        raise ValueError("a work pool's name, which has none of / % & < >")
    return display_text(text)


def _module(text: str) -> str:
    if not all(part.isidentifier() for part in text.split(".")):
        raise ValueError("the name of a module, like clinic.tasks")
    return text


def _object_path(text: str, allowed: str) -> str:
    module, _, name = text.partition(":")
    parts = [*module.split("."), *name.split(".")]
    if not all(part.isidentifier() for part in parts):
        raise ValueError(allowed)
    return text


def _class_path(text: str) -> str:
    return _object_path(text, "a module and a class, like clinic.models:Appointment")


def _engine_path(text: str) -> str:
    return _object_path(text, "a module and an engine, like shop.database:engine")


def _context_path(text: str) -> str:
    return _object_path(text, "a module and a context manager, like shop.web:context")


def _element_name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError(f"a name of {NAME_TEXT}")
    return text


Module = Annotated[str, AfterValidator(_module)]
ElementName = Annotated[str, AfterValidator(_element_name)]
Display = Annotated[str, AfterValidator(display_text)]
WorkPool = Annotated[str, AfterValidator(_work_pool)]
Tag = Annotated[str, AfterValidator(_tag)]
TypePath = Annotated[str, AfterValidator(lambda t: _path(t, 2, "tasks.NormalType"))]
ModelPath = Annotated[str, AfterValidator(lambda t: _path(t, 2, "models.Contract"))]
FuncPath = Annotated[
    str, AfterValidator(lambda t: _path(t, 3, "services.NoticeSvc.send"))
]
Text = Annotated[str, AfterValidator(clean_text)]
SafeText = Annotated[str, AfterValidator(safe_text)]
Zone = Annotated[str, AfterValidator(zone_name)]
ClassPath = Annotated[str, AfterValidator(_class_path)]
EnginePath = Annotated[str, AfterValidator(_engine_path)]
ContextPath = Annotated[str, AfterValidator(_context_path)]
