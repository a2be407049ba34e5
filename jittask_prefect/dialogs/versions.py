"""Versions of a task: the version that a form was made from, and its difference from the present version."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jittask_prefect.dialogs.fields import Form
from jittask_prefect.dialogs.folder import inner_file
from jittask_prefect.elements.app import App
from jittask_prefect.elements.files import replace_file
from jittask_prefect.elements.types import Meta
from jittask_prefect.errors import OutdatedForm, Problem
from jittask_prefect.prefect_api.markup import md, table
from jittask_prefect.validation import shown

KEPT = 20
"""Versions of a task that are remembered. Forms of older ones are refused as well, with less to say."""
NOTHING = "nothing"
Parts = dict[str, list[str]]
"""The content of a version: by key of e.json the value's digest, and the value as a message shows it."""
Difference = tuple[str, str, str]
"""A key, its value in the form or its version, and its present value."""
log = logging.getLogger("jittask")


def version_of(template: Meta) -> str:
    """A short text that changes with anything in a task's e.json, and in its inner.py where forms bring code."""
    return _digest({key: digest for key, (digest, _) in _parts(template).items()})


def remember(template: Meta) -> None:
    """Keep the content of the present version, so that the refusal of an outdated form tells the difference."""
    file, version = _file(template.app, template.fullName), version_of(template)
    known = _known(file)
    if list(known)[-1:] == [version]:
        return
    known.pop(version, None)
    known[version] = _parts(template)
    try:
        file.parent.parent.mkdir(mode=0o700, exist_ok=True)
        file.parent.mkdir(exist_ok=True)
        text = json.dumps(dict(list(known.items())[-KEPT:]))
        replace_file(file, text.encode())
    except OSError as error:  # a read-only folder: a refusal has less to say
        log.debug("%s: its version is not kept: %s", template.fullName, error)


def outdated(
    template: Meta,
    version: str,
    differs: Form,
    shows: Form,
    link: str,
) -> OutdatedForm:
    """The refusal of a form that was made from another version.

    Args:
        template: The present task.
        version: The form's version.
        differs: The fields that the form says otherwise than the task.
        shows: The fields of a fresh form.
        link: The address of a fresh form; empty where there is none.
    """
    name = template.fullName
    then = _known(_file(template.app, name)).get(version)
    if then is not None:
        found = list(_differences(then, _parts(template)))
        problems = [
            Problem("", key, f"a form made from {old}", f"a form made from {new}")
            for key, old, new in found
        ]
    else:
        found = [
            (key, shown(value), shown(shows[key]) if key in shows else NOTHING)
            for key, value in differs.items()
        ]
        problems = [
            Problem("", key, said, f"{new}, which the task has now")
            for key, said, new in found
        ]
    page = "this run's Artifacts lead" if link else "its statistics page leads"
    told = f"{name}, which has changed since the form was made"
    problems.append(Problem("", "Task", told, f"a fresh form; {page} to a fresh one"))
    head = ("key", "then" if then is not None else "in the form", "now")
    lines = [
        f"## {md(template.title)}",
        "",
        f"`{name}` has changed since the form was made. Nothing is written.",
        "",
        *table(head, [[md(cell) for cell in row] for row in found]),
        *(["", f"- [Edit it as it is now]({link})"] if link else []),
    ]
    return OutdatedForm(problems, "\n".join(lines) + "\n")


def _differences(then: Parts, now: Parts) -> Iterator[Difference]:
    for key in dict.fromkeys([*then, *now]):
        old, new = then.get(key, ["", NOTHING]), now.get(key, ["", NOTHING])
        if old[0] != new[0]:
            yield key, old[1], new[1]


def _parts(template: Meta) -> Parts:
    """The content of the present version."""
    found = dict(template.config)
    if isinstance(timer := found.pop("timerCfg", None), dict):
        found |= {f"timerCfg.{key}": value for key, value in timer.items()}
    parts = {key: [_digest(value), shown(value)] for key, value in found.items()}
    if template.app.cfg.allowCodeFromForms:
        try:
            code = inner_file(template.app, template.fullName).read_bytes()
        except OSError:
            code = b""
        digest = hashlib.sha256(code).hexdigest()[:16]
        parts["inner.py"] = [digest, f"{len(code)} bytes, {digest[:6]}"]
    return parts


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _file(app: App, name: str) -> Path:
    return app.path / ".jittask" / "versions" / f"{name}.json"


def _known(file: Path) -> dict[str, Parts]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
