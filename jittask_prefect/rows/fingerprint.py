"""A short text that changes with the due times of a template's tasks."""

from __future__ import annotations

import hashlib
import json

from jittask_prefect.elements.types import Meta


def rule_of(config: str | None) -> str:
    """The part of a fingerprint that stands for e.json and app.json, without the days of the calendar."""
    return (config or "").partition("-")[0]


def fingerprint(template: Meta) -> str:
    """The fingerprint of a template.

    Two parts: the rules of e.json and app.json; and, behind `-`, the days of the calendar that the template heeds,
    which a release of `holidays` may change.
    """
    cfg, calendar = template.cfg, template.timer.calendar
    about = [
        cfg.timerCfg,
        cfg.filter,
        cfg.modelPath,
        str(template.timer.zone),
        calendar.cfg.model_dump(mode="json") if calendar else None,
    ]
    text = json.dumps(about, sort_keys=True, default=str)
    rule = hashlib.sha256(text.encode()).hexdigest()[:16]
    moves = template.timer.moves
    return f"{rule}-{moves.digest}" if moves.active else rule
