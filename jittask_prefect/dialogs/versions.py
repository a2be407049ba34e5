"""Versions of a task: which one a form was made from, and what differs in the one that stands now."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jittask_prefect.elements.app import App
from jittask_prefect.elements.types import Meta
from jittask_prefect.errors import OutdatedForm, Problem
from jittask_prefect.prefect_api.markup import md, table
from jittask_prefect.validation import shown

KEPT = 20
"""Versions of a task that are remembered: forms of older ones are refused as well, with less to say."""
NOTHING = "nothing"
Parts = dict[str, list[str]]
"""What a version has: by key of e.json the digest of its value, and the value as a message shows it."""
log = logging.getLogger("jittask")


def version_of(template: Meta) -> str:
    """A short text that changes with anything in a task's e.json; where forms bring code, with its inner.py too."""
    return _digest({name: digest for name, (digest, _) in _parts(template).items()})


def remember(template: Meta) -> None:
    """Keep what a version is, so that an outdated form can be told the difference: whoever makes a form does."""
    file, version = _file(template.app, template.fullName), version_of(template)
    known = _known(file)
    if list(known)[-1:] == [version]:
        return
    known.pop(version, None)
    known[version] = _parts(template)
    spare = file.with_name(f".{file.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        file.parent.parent.mkdir(mode=0o700, exist_ok=True)
        file.parent.mkdir(exist_ok=True)
        spare.write_text(
            json.dumps(dict(list(known.items())[-KEPT:])), encoding="utf-8"
        )
        spare.replace(file)
    except OSError as error:  # a folder that is only read: a refusal has less to say
        log.debug("%s: its version is not kept: %s", template.fullName, error)


def outdated(
    template: Meta,
    version: str,
    form: Mapping[str, Any],
    shows: Mapping[str, Any],
    link: str,
) -> OutdatedForm:
    """The refusal of a form that was made from another version.

    Args:
        template: The task as it is now.
        version: The form's.
        form: What the form says otherwise than the task.
        shows: What a fresh form shows.
        link: Of a fresh form; empty where there is none.
    """
    name, now = template.fullName, _parts(template)
    then = _known(_file(template.app, name)).get(version)
    if then is not None:
        found = list(_differences(then, now))
        problems = [
            Problem("", key, f"a form made from {old}", f"a form made from {new}")
            for key, old, new in found
        ]
    else:  # nobody remembers it: what the form says otherwise than the task does
        found = [
            (key, shown(said), shown(shows[key]) if key in shows else NOTHING)
            for key, said in form.items()
        ]
        problems = [
            Problem("", key, said, f"{new}, which the task has now")
            for key, said, new in found
        ]
    fresh = (
        "this run's Artifacts lead to a fresh one"
        if link
        else "its statistics page leads to a fresh one"
    )
    problems.append(
        Problem(
            "",
            "Task",
            f"{name}, which has changed since the form was made",
            f"a fresh form; {fresh}",
        )
    )
    lines = [
        f"## {md(template.title)}",
        "",
        f"`{name}` has changed since the form was made. Nothing is written.",
        "",
    ]
    lines += table(
        ("key", "then" if then is not None else "in the form", "now"),
        [(md(key), md(old), md(new)) for key, old, new in found],
    )
    lines += ["", f"- [Edit it as it is now]({link})"] if link else []
    return OutdatedForm(problems, "\n".join(lines) + "\n")


def _differences(then: Parts, now: Parts) -> Iterator[tuple[str, str, str]]:
    for key in dict.fromkeys([*then, *now]):
        old, new = then.get(key, ["", NOTHING]), now.get(key, ["", NOTHING])
        if old[0] != new[0]:
            yield key, old[1], new[1]


def _parts(template: Meta) -> Parts:
    raw = template.config
    timer = raw.get("timerCfg")
    found = {
        key: value
        for key, value in raw.items()
        if key != "timerCfg" or not isinstance(timer, dict)
    }
    if isinstance(timer, dict):
        found |= {f"timerCfg.{key}": value for key, value in timer.items()}
    parts = {key: [_digest(value), shown(value)] for key, value in found.items()}
    if template.app.cfg.allowCodeFromForms:
        inner = template.app.path / template.fullName.replace(".", "/") / "inner.py"
        try:
            code = inner.read_bytes()
        except OSError:
            code = b""
        digest = hashlib.sha256(code).hexdigest()[:16]
        parts["inner.py"] = [digest, f"{len(code)} bytes, {digest[:6]}"]
    return parts


def _digest(value: Any) -> str:
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, default=str).encode()
    ).hexdigest()[:16]


def _file(app: App, name: str) -> Path:
    return app.path / ".jittask" / "versions" / f"{name}.json"


def _known(file: Path) -> dict[str, Parts]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
