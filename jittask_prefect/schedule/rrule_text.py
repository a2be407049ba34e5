"""The text of one RRULE line, part by part (RFC 5545 §3.3.10)."""

from __future__ import annotations

from jittask_prefect.validation import shown

FREQS = ("SECONDLY", "MINUTELY", "HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY")
SECONDS = {"SECONDLY": 1, "MINUTELY": 60, "HOURLY": 3600}
WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
PARTS = {
    "BYMONTH": (1, 12, False), "BYWEEKNO": (1, 53, True), "BYYEARDAY": (1, 366, True), "BYMONTHDAY": (1, 31, True),
    "BYHOUR": (0, 23, False), "BYMINUTE": (0, 59, False), "BYSECOND": (0, 59, False), "BYSETPOS": (1, 366, True),
}  # fmt: skip
LONGEST = 6500
"""Characters of a rule, as many as Prefect takes for a whole schedule."""
Numbers = frozenset[int]


def read(
    text: str,
) -> tuple[str, int, int, dict[str, Numbers], frozenset[tuple[int, int]]]:
    """The parts of a rule: frequency, interval, first weekday of a week (Monday 0), BY parts, BYDAY.

    Raises:
        ValueError: The text says what is allowed.
    """
    if len(text) > LONGEST:
        raise ValueError(f"an RRULE of at most {LONGEST} characters, not {len(text)}")
    body = text.strip()
    body = body[6:] if body.upper().startswith("RRULE:") else body
    if "\n" in body or "DTSTART" in body.upper():
        raise ValueError("one RRULE line without DTSTART: the rule starts at the start")
    parts: dict[str, str] = {}
    for item in body.split(";"):
        name, equals, value = item.strip().upper().partition("=")
        if not equals or not value or name in parts:
            raise ValueError(
                f"NAME=VALUE parts joined by ';', each name once, not {shown(item)}"
            )
        parts[name] = value
    for name in ("COUNT", "UNTIL"):
        if name in parts:
            raise ValueError(f"an RRULE without {name}: endTime says when it ends")
    freq = parts.pop("FREQ", "")
    if freq not in FREQS:
        raise ValueError(f"FREQ= one of {', '.join(FREQS)}")
    interval = _numbers("INTERVAL", parts.pop("INTERVAL", "1"), 1, 1_000_000, False)
    start = parts.pop("WKST", "MO")
    if start not in WEEKDAYS:
        raise ValueError(f"WKST= one of {', '.join(WEEKDAYS)}")
    weekdays = _weekdays(parts.pop("BYDAY")) if "BYDAY" in parts else frozenset()
    if unknown := [name for name in parts if name not in PARTS]:
        raise ValueError(
            f"the parts FREQ, INTERVAL, WKST, BYDAY, {', '.join(PARTS)}; not {unknown[0]}"
        )
    by = {name: _numbers(name, value, *PARTS[name]) for name, value in parts.items()}
    return freq, min(interval), WEEKDAYS.index(start), by, weekdays


def _numbers(name: str, text: str, low: int, high: int, signed: bool) -> Numbers:
    found = set()
    for item in text.split(","):
        body = item[1:] if item[:1] in ("+", "-") else item
        if not (body.isascii() and body.isdigit() and len(body) <= 8):
            raise ValueError(f"{name}= whole numbers, not {shown(item)}")
        number = int(item)
        if not low <= (abs(number) if signed else number) <= high:
            raise ValueError(
                f"{name}= {low} to {high}{' or the same from the end' if signed else ''}, not {item}"
            )
        found.add(number)
    return frozenset(found)


def _weekdays(text: str) -> frozenset[tuple[int, int]]:
    found = set()
    for item in text.split(","):
        name, number = item[-2:], item[:-2]
        if name not in WEEKDAYS:
            raise ValueError(
                f"BYDAY= {', '.join(WEEKDAYS)}, with a number before it or not, not {shown(item)}"
            )
        if number and 0 in _numbers("BYDAY", number, 0, 53, True):
            raise ValueError(f"BYDAY= a number from 1 or -1 on, not {shown(item)}")
        found.add((int(number or 0), WEEKDAYS.index(name)))
    return frozenset(found)
