"""Each piece as the `timerCfg` that says the same, written by hand; and what is refused, with its argument."""

from __future__ import annotations

import pickle
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from jittask_prefect import (
    After,
    Before,
    Cron,
    Daily,
    Dates,
    Hourly,
    Minutely,
    Monthly,
    Once,
    RRule,
    Timer,
    Weekly,
    Workdays,
    Yearly,
    now,
    today,
)
from jittask_prefect.elements.decorated.offsets import Offset
from jittask_prefect.elements.decorated.piece_keys import row_keys, scheduled_keys
from jittask_prefect.elements.decorated.pieces import Piece
from jittask_prefect.schedule.reading import read_timer


class Base(DeclarativeBase):
    pass


class Invoice(Base):
    __tablename__ = "piece_invoice"
    id: Mapped[int] = mapped_column(primary_key=True)
    due_on: Mapped[date]
    ends: Mapped[datetime | None]


class Patient(Base):
    __tablename__ = "piece_patient"
    id: Mapped[int] = mapped_column(primary_key=True)
    born: Mapped[date] = mapped_column(sa.Date)


def never(argument: str, found: str, allowed: str) -> None:
    raise AssertionError(f"{argument}: found {found}; allowed: {allowed}")


def scheduled(rule: Any, until: Any = None) -> dict[str, Any]:
    return scheduled_keys(rule, until, never)


def rows(offset: Any = None, repeat: Any = None, until: Any = None) -> dict[str, Any]:
    model, keys = row_keys(Invoice.due_on, offset, repeat, until, never)
    assert model is Invoice
    assert keys.pop("startField") == "due_on"
    return keys


ONCE = {"repeatType": "normal"}
SCHEDULED: list[tuple[Any, str, dict[str, Any]]] = [
    (Minutely(), "2000-01-01 00:00:00", {"repeatType": "minute"}),
    (Minutely(every=15, start="2026-01-01"), "2026-01-01 00:00:00", {"repeatType": "minute", "period": 15}),
    (Hourly(at="00:30"), "2000-01-01 00:30:00", {"repeatType": "hour"}),
    (Daily(), "2000-01-01 00:00:00", {"repeatType": "day"}),
    (Daily(at="06:00"), "2000-01-01 06:00:00", {"repeatType": "day"}),
    (Daily(at=time(6, 0, 30)), "2000-01-01 06:00:30", {"repeatType": "day"}),
    (Daily(every=3, start=date(2026, 1, 5), at="06:00"), "2026-01-05 06:00:00", {"repeatType": "day", "period": 3}),
    (Daily(every=3, start="2026-01-05 07:30"), "2026-01-05 07:30:00", {"repeatType": "day", "period": 3}),
    (Daily(start=datetime(2026, 1, 5, 7, 30)), "2026-01-05 07:30:00", {"repeatType": "day"}),
    (Workdays(at="08:00"), "2000-01-01 08:00:00", {"repeatType": "workday"}),
    (Workdays(every=3, start="2026-01-05", at="08:00"), "2026-01-05 08:00:00", {"repeatType": "workday", "period": 3}),
    (Monthly(day="last workday", at="18:00"), "2000-01-01 18:00:00", {"repeatType": "month", "workday": -1}),
    (Monthly(day=["tenth workday", "Second last workday"]), "2000-01-01 00:00:00",
     {"repeatType": "month", "workday": [10, -2]}),
    (Yearly(month=3, day="first workday"), "2000-01-01 00:00:00", {"repeatType": "year", "month": 3, "workday": 1}),
    (Weekly("mon", "thu", at="09:00"), "2000-01-01 09:00:00", {"repeatType": "week", "weekday": [1, 4]}),
    (Weekly("Sunday"), "2000-01-01 00:00:00", {"repeatType": "week", "weekday": [7]}),
    (Weekly(every=2, start="2026-01-05"), "2026-01-05 00:00:00", {"repeatType": "week", "period": 2}),
    (Monthly(at="09:00"), "2000-01-01 09:00:00", {"repeatType": "month"}),
    (Monthly(day=15), "2000-01-01 00:00:00", {"repeatType": "month", "day": 15}),
    (Monthly(day=-1, at="18:00"), "2000-01-01 18:00:00", {"repeatType": "month", "day": -1}),
    (Monthly(day=[1, 15]), "2000-01-01 00:00:00", {"repeatType": "month", "day": [1, 15]}),
    (Monthly(day=31, month_end="skip"), "2000-01-01 00:00:00", {"repeatType": "month", "day": 31, "monthEnd": "skip"}),
    (Monthly(day="first monday"), "2000-01-01 00:00:00",
     {"repeatType": "month", "subType": "week", "week": 1, "weekday": [1]}),
    (Monthly(day="last friday"), "2000-01-01 00:00:00",
     {"repeatType": "month", "subType": "week", "week": -1, "weekday": [5]}),
    (Monthly(day=["second last monday", "second last tuesday"]), "2000-01-01 00:00:00",
     {"repeatType": "month", "subType": "week", "week": -2, "weekday": [1, 2]}),
    (Monthly(day=["first monday", "third monday"]), "2000-01-01 00:00:00",
     {"repeatType": "month", "subType": "week", "week": [1, 3], "weekday": [1]}),
    (Monthly(day=["first monday", "first friday", "last monday", "last friday"]), "2000-01-01 00:00:00",
     {"repeatType": "month", "subType": "week", "week": [1, -1], "weekday": [1, 5]}),
    (Yearly(), "2000-01-01 00:00:00", {"repeatType": "year"}),
    (Yearly(month=3, day=31, at="09:00"), "2000-01-01 09:00:00", {"repeatType": "year", "month": 3, "day": 31}),
    (Yearly(month=[1, 7], day="first monday"), "2000-01-01 00:00:00",
     {"repeatType": "year", "month": [1, 7], "subType": "week", "week": 1, "weekday": [1]}),
    (Once("2026-05-01 09:00"), "2026-05-01 09:00:00", ONCE),
    (Once(datetime(2026, 5, 1, 9)), "2026-05-01 09:00:00", ONCE),
    (Once("2026-05-01"), "2026-05-01 00:00:00", ONCE),
    (Cron("0 6 * * 1-5"), "2000-01-01 00:00:00", {"repeatType": "custom", "cron": "0 6 * * 1-5"}),
    (RRule("FREQ=MONTHLY;BYDAY=-1FR", at="18:00"), "2000-01-01 18:00:00",
     {"repeatType": "custom", "rrule": "FREQ=MONTHLY;BYDAY=-1FR"}),
    (RRule("FREQ=DAILY;INTERVAL=2", start="2026-01-05"), "2026-01-05 00:00:00",
     {"repeatType": "custom", "rrule": "FREQ=DAILY;INTERVAL=2"}),
    (Dates("2026-03-31", "2026-06-30 18:00", date(2026, 9, 30), at="09:00"), "2000-01-01 09:00:00",
     {"repeatType": "custom", "dates": ["2026-03-31", "2026-06-30 18:00:00", "2026-09-30"]}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "start", "repeat"), SCHEDULED, ids=[repr(rule) for rule, *_ in SCHEDULED]
)
def test_a_scheduled_rule_is_a_timer(
    rule: Any, start: str, repeat: dict[str, Any]
) -> None:
    keys = scheduled(rule)
    assert keys == {"startTime": start, "repeat": repeat}
    read_timer(keys, rows=False)


# A rule, and its first four times from 2026-03-01 on in Berlin, by the calendar on the wall.
TIMES: list[tuple[Any, list[str]]] = [
    (Daily(at="06:00"), ["03-01 06:00", "03-02 06:00", "03-03 06:00", "03-04 06:00"]),
    (Weekly("mon", "thu", at="09:00"), ["03-02 09:00", "03-05 09:00", "03-09 09:00", "03-12 09:00"]),
    (Monthly(day=-1, at="18:00"), ["03-31 18:00", "04-30 18:00", "05-31 18:00", "06-30 18:00"]),
    (Workdays(at="08:00"), ["03-02 08:00", "03-03 08:00", "03-04 08:00", "03-05 08:00"]),
    (Monthly(day="last workday"), ["03-31 00:00", "04-30 00:00", "05-29 00:00", "06-30 00:00"]),
    (Monthly(day="first monday"), ["03-02 00:00", "04-06 00:00", "05-04 00:00", "06-01 00:00"]),
    (Monthly(every=2, day=1, start="2026-02-01"), ["04-01 00:00", "06-01 00:00", "08-01 00:00", "10-01 00:00"]),
    (Yearly(month=[3, 9], day=31), ["03-31 00:00", "09-30 00:00"]),
    (Cron("0 6 * * 1-5"), ["03-02 06:00", "03-03 06:00", "03-04 06:00", "03-05 06:00"]),
    (Dates("2026-03-31", "2026-06-30 18:00", at="09:00"), ["03-31 09:00", "06-30 18:00"]),
    (Once("2026-05-01 09:00"), ["05-01 09:00"]),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "times"), TIMES, ids=[repr(r) for r, _ in TIMES])
def test_a_rule_is_due_at_the_times_that_its_words_say(
    rule: Any, times: list[str]
) -> None:
    timer = Timer(scheduled(rule), timezone="Europe/Berlin")
    zone = ZoneInfo("Europe/Berlin")
    window = datetime(2026, 3, 1, tzinfo=zone), datetime(2026, 12, 31, tzinfo=zone)
    found = [f"{due:%m-%d %H:%M}" for due in timer.occurrences(*window)]
    assert found[:4] == times


@pytest.mark.parametrize(
    ("until", "text"),
    [
        ("2026-12-31", "2026-12-31"),
        ("2026-12-31T18:00", "2026-12-31 18:00:00"),
        (date(2026, 12, 31), "2026-12-31"),
        (datetime(2026, 12, 31, 18), "2026-12-31 18:00:00"),
    ],
)
def test_the_end_of_a_scheduled_task(until: Any, text: str) -> None:
    assert scheduled(Daily(), until)["endTime"] == text


OFFSETS: list[tuple[Any, dict[str, Any] | None]] = [
    (None, None),
    (Before(days=2, at="09:00"), {"offsetType": -1, "offset": 2, "offsetUnit": "day", "time": "09:00"}),
    (After(seconds=30), {"offsetType": 1, "offset": 30, "offsetUnit": "second"}),
    (Before(minutes=5), {"offsetType": -1, "offset": 5, "offsetUnit": "minute"}),
    (Before(hours=2), {"offsetType": -1, "offset": 2, "offsetUnit": "hour"}),
    (Before(workdays=3, at="09:00"), {"offsetType": -1, "offset": 3, "offsetUnit": "workday", "time": "09:00"}),
    (After(workdays=10), {"offsetType": 1, "offset": 10, "offsetUnit": "workday"}),
    (After(weeks=1), {"offsetType": 1, "offset": 1, "offsetUnit": "week"}),
    (After(months=3), {"offsetType": 1, "offset": 3, "offsetUnit": "month"}),
    (Before(years=1, at=time(8)), {"offsetType": -1, "offset": 1, "offsetUnit": "year", "time": "08:00"}),
    (After(at="09:00"), {"offsetType": 0, "time": "09:00"}),
    (Before(days=0, at="09:00"), {"offsetType": 0, "time": "09:00"}),
    (After(days=0), None),
]  # fmt: skip


@pytest.mark.parametrize(("offset", "keys"), OFFSETS)
def test_an_offset_is_a_start_offset(offset: Any, keys: dict[str, Any] | None) -> None:
    found = rows(offset)
    assert found == ({"startOffset": keys} if keys else {}) | {"repeat": ONCE}
    read_timer({"startField": "due_on"} | found, rows=True)


def test_a_list_of_named_offsets_is_a_list_of_start_offsets() -> None:
    offsets = [
        Before(days=2, at="09:00", name="early"),
        After(days=0, name="due"),
        After(workdays=3, name="late"),
    ]
    expected = [
        {"offsetType": -1, "offset": 2, "offsetUnit": "day", "time": "09:00"},
        {"offsetType": 0},
        {"offsetType": 1, "offset": 3, "offsetUnit": "workday"},
    ]
    names = ("early", "due", "late")
    for given in (offsets, tuple(offsets)):
        assert rows(given)["startOffset"] == [
            {"name": name} | keys for name, keys in zip(names, expected, strict=True)
        ]
    read_timer({"startField": "due_on"} | rows(offsets, Weekly()), rows=True)


@pytest.mark.parametrize(
    ("until", "keys"),
    [
        ("2026-12-31", {"endTimeType": 1, "endTime": "2026-12-31"}),
        (Invoice.ends, {"endTimeType": 2, "endField": "ends"}),
        (
            After(Invoice.due_on, months=3),
            {
                "endTimeType": 2,
                "endField": "due_on",
                "endOffset": {"offsetType": 1, "offset": 3, "offsetUnit": "month"},
            },
        ),
        (
            Before(Invoice.ends, days=1, at="18:00"),
            {
                "endTimeType": 2,
                "endField": "ends",
                "endOffset": {
                    "offsetType": -1,
                    "offset": 1,
                    "offsetUnit": "day",
                    "time": "18:00",
                },
            },
        ),
    ],
)
def test_the_end_of_a_row_s_repeat(until: Any, keys: dict[str, Any]) -> None:
    found = rows(After(days=3, at="09:00"), Weekly(), until)
    assert {k: v for k, v in found.items() if k.startswith("end")} == keys
    assert found["repeat"] == {"repeatType": "week"}
    read_timer({"startField": "due_on"} | found, rows=True)


def test_a_row_s_repeat_needs_no_start_and_its_clock_is_the_offset_s() -> None:
    assert rows(None, Yearly(at="08:00")) == {
        "repeat": {"repeatType": "year"},
        "startOffset": {"offsetType": 0, "time": "08:00"},
    }
    assert rows(After(days=3), Daily(every=2, at="08:00")) == {
        "repeat": {"repeatType": "day", "period": 2},
        "startOffset": {
            "offsetType": 1,
            "offset": 3,
            "offsetUnit": "day",
            "time": "08:00",
        },
    }


def test_a_row_s_times_are_those_of_the_e_json() -> None:
    """Invoice due on 1 March 2026, after three days at nine, then weekly, until three months after."""
    keys = rows(After(days=3, at="09:00"), Weekly(), After(Invoice.due_on, months=3))
    timer = Timer({"startField": "due_on"} | keys, timezone="UTC")
    series = timer.series(date(2026, 3, 1), date(2026, 3, 1))
    assert series is not None
    window = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    due = [found.due for found in series.between(*window)]
    assert (due[0], due[1]) == (
        datetime(2026, 3, 4, 9, tzinfo=UTC),
        datetime(2026, 3, 11, 9, tzinfo=UTC),
    )
    assert due[-1] == datetime(2026, 5, 27, 9, tzinfo=UTC)  # 1 June is the end
    assert len(due) == 13


# What is refused


def refused(make: Any) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    make(lambda argument, value, allowed: found.append((argument, value, allowed)))
    assert found
    return found


@pytest.mark.parametrize(
    ("rule", "argument", "value", "allowed"),
    [
        ("daily", "rule", "'daily'", 'Daily(at="09:00")'),
        (Before(days=1), "rule", "Before(days=1)", "Daily("),
        (Daily(every=2), "rule.start", "nothing, in Daily(every=2)", "with start="),
        (RRule("FREQ=DAILY;INTERVAL=2"), "rule.start", "nothing, in RRule", "with start="),
        (Weekly(), "rule.weekdays", "nothing, in Weekly()", 'Weekly("mon"), or with start='),
        (Daily(every=0), "rule.every", "0", "a whole number, 1 or more"),
        (Daily(every="2"), "rule.every", "'2'", "a whole number"),  # type: ignore[arg-type]
        (Daily(every=True), "rule.every", "True", "a whole number"),
        (Daily(at="9:00"), "rule.at", "'9:00'", "a clock time"),
        (Daily(at="25:00"), "rule.at", "'25:00'", "a clock time"),
        (Daily(at=9), "rule.at", "9", "a clock time"),  # type: ignore[arg-type]
        (Daily(start="tomorrow"), "rule.start", "'tomorrow'", "a wall time"),
        (Daily(start="2026-02-30"), "rule.start", "'2026-02-30'", "a wall time"),
        (Daily(start=datetime(2026, 1, 1, tzinfo=UTC)), "rule.start", "datetime.datetime(2026", "without a zone"),
        (Daily(start="2026-01-01 08:00", at="09:00"), "rule.start", "with at='09:00'", "a start without a time"),
        (Weekly("mo"), "rule.weekdays", "'mo'", '"mon" to "sun"'),  # type: ignore[arg-type]
        (Weekly(["mon", "thu"]), "rule.weekdays", "['mon', 'thu']", 'Weekly("mon", "thu")'),  # type: ignore[arg-type]
        (Monthly(day="frist monday"), "rule.day", "'frist monday'", '"first monday"'),  # type: ignore[arg-type]
        (Monthly(day="eleventh workday"), "rule.day", "'eleventh workday'", '"tenth workday"'),  # type: ignore[arg-type]
        (Monthly(day=["last workday", 1]), "rule.day", "'last workday'", "a working day by its place"),
        (Workdays(every=3), "rule.start", "nothing, in Workdays(every=3)", "with start="),
        (Monthly(day=["first monday", "third friday"]), "rule.day", "['first monday', 'third friday']", "RRule("),
        (Monthly(day=True), "rule.day", "True", "1 to 31"),
        (Monthly(day=[]), "rule.day", "[]", "1 to 31"),
        (Dates("2026-03-31", 5), "rule.dates", "5", "a wall time"),  # type: ignore[arg-type]
        (Dates(["2026-03-31"]), "rule.dates", "['2026-03-31']", "each for itself"),  # type: ignore[arg-type]
        (Once("soon"), "rule.at", "'soon'", "a wall time"),
    ],
)  # fmt: skip
def test_a_wrong_rule_is_named(
    rule: Any, argument: str, value: str, allowed: str
) -> None:
    ((found, shown, said), *_) = refused(lambda no: scheduled_keys(rule, None, no))
    assert found == argument
    assert value in shown
    assert allowed in said


@pytest.mark.parametrize(
    ("given", "argument", "value", "allowed"),
    [
        ({"field": "due_on"}, "field", "'due_on'", "a mapped date or datetime attribute"),
        ({"field": Invoice}, "field", "Invoice", "a mapped date or datetime attribute"),
        ({"offset": 3}, "offset", "3", "Before(days=2"),
        ({"offset": Daily()}, "offset", "Daily()", "Before(days=2"),
        ({"offset": Before(days=2, hours=3)}, "offset", "Before(hours=3, days=2)", "one unit of"),  # type: ignore[call-overload]
        ({"offset": Before()}, "offset", "Before()", "one unit of"),  # type: ignore[call-overload]
        ({"offset": Before(days=-2)}, "offset.days", "-2", "0 or more"),
        ({"offset": Before(days=1.5)}, "offset.days", "1.5", "a whole number"),  # type: ignore[call-overload]
        ({"offset": After(hours=2, at="09:00")}, "offset.at", "'09:00' with hours", "at only with days"),  # type: ignore[call-overload]
        ({"offset": After(days=1, at="nine")}, "offset.at", "'nine'", "a clock time"),
        ({"offset": [After(days=1)]}, "offset", "After(days=1)", 'After(days=3, name="first")'),
        ({"offset": [After(days=1, name="a"), 3]}, "offset", "3", "Before(days=2"),
        ({"offset": After(days=1, name="a")}, "offset.name", "'a'", "no name"),
        ({"offset": [After(days=-1, name="a")]}, "offset.days", "-1", "0 or more"),
        ({"offset": [After(days=1, name="a")], "repeat": Daily(at="09:00")}, "repeat.at", "'09:00'", "each offset"),
        ({"until": After(Invoice.due_on, days=1, name="a")}, "until.name", "'a'", "no name"),
        ({"offset": After(Invoice.due_on, days=1)}, "offset", "After(Invoice.due_on, days=1)", "only in until"),
        ({"repeat": "weekly"}, "repeat", "'weekly'", "Weekly("),
        ({"repeat": Once("2026-01-01")}, "repeat", "Once(at='2026-01-01')", "Weekly("),
        ({"repeat": Daily(start="2026-01-01")}, "repeat.start", "'2026-01-01'", "the row's own date"),
        ({"offset": After(hours=1), "repeat": Daily(at="08:00")}, "repeat.at", "'08:00' with After(hours=1)", "one clock time"),
        ({"offset": After(days=1, at="09:00"), "repeat": Daily(at="08:00")}, "repeat.at", "'08:00'", "one clock time"),
        ({"until": After(months=3)}, "until", "After(months=3)", "After(Invoice.due_on, months=3)"),
        ({"until": "due_on"}, "until", "'due_on'", "After(Invoice.due_on, months=3)"),
        ({"until": Patient.born}, "until", "Patient.born", "an attribute of Invoice"),
        ({"until": After(Patient.born, years=90)}, "until", "Patient.born", "an attribute of Invoice"),
    ],
)  # fmt: skip
def test_a_wrong_argument_of_rows_is_named(
    given: dict[str, Any], argument: str, value: str, allowed: str
) -> None:
    rule = {"field": Invoice.due_on, "offset": None, "repeat": None, "until": None}
    ((found, shown, said), *_) = refused(lambda no: row_keys(*(rule | given).values(), no))  # fmt: skip
    assert found == argument
    assert value in shown
    assert allowed in said


# Pieces as values


def test_pieces_are_frozen_values() -> None:
    assert Weekly("mon", at="09:00") == Weekly("mon", at="09:00") != Weekly("tue")
    assert Before(days=2) != After(days=2)
    assert len({Monthly(day=[1, 15]), Monthly(day=[1, 15])}) == 1
    for piece in (Before(days=2, at="09:00"), Weekly("mon"), now(hours=2)):
        assert pickle.loads(pickle.dumps(piece)) == piece
        with pytest.raises(AttributeError):
            piece.at = "10:00"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("piece", "text"),
    [
        (Before(days=2, at="09:00"), "Before(days=2, at='09:00')"),
        (After(Invoice.due_on, months=3), "After(Invoice.due_on, months=3)"),
        (Weekly("mon", "thu", every=2), "Weekly('mon', 'thu', every=2)"),
        (Monthly(day=-1), "Monthly(day=-1)"),
        (Dates("2026-01-01"), "Dates('2026-01-01')"),
        (Hourly(), "Hourly()"),
    ],
)
def test_a_piece_is_shown_as_the_call_that_makes_it(piece: Piece, text: str) -> None:
    assert repr(piece) == text


def test_an_unknown_argument_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="fortnights"):
        Before(fortnights=2)  # type: ignore[call-overload]


def test_times_that_move_say_so() -> None:
    assert str(now(hours=2, days=-1)) == "Q.now(days=-1, hours=2)"
    assert str(today()) == "Q.today()"


@pytest.mark.parametrize(
    "piece",
    [Before, After, Minutely, Hourly, Daily, Weekly, Monthly, Yearly, Once, Cron, RRule, Dates, now, today],
)  # fmt: skip
def test_every_piece_explains_itself_in_an_editor(piece: Any) -> None:
    """Zone and an example stand in each docstring."""
    text = piece.__doc__
    assert "zone" in text or issubclass(piece, Offset)
    assert f"{piece.__name__}(" in text
