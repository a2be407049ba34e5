"""Instants and days as people say them."""

from __future__ import annotations

from datetime import date, datetime, tzinfo


def moment(at: datetime, now: datetime, zone: tzinfo) -> str:
    """An instant as people say it: `today 09:00`, `Thu 3 Dec 09:00`, with the year where that is not the present year.

    Args:
        at: The instant; aware.
        now: The present instant; aware.
        zone: The zone of the clock time.
    """
    local, today = at.astimezone(zone), now.astimezone(zone).date()
    days = (local.date() - today).days
    near = {-1: "yesterday", 0: "today", 1: "tomorrow"}.get(days)
    return f"{near or day_text(local.date(), today)} {local:%H:%M}"


def day_text(day: date, today: date) -> str:
    """A day in words, `Thu 3 Dec`; with its year where that is another than today's."""
    year = "" if day.year == today.year else f" {day.year}"
    return f"{day:%a} {day.day} {day:%b}{year}"
