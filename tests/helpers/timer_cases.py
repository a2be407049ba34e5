"""Hypothesis strategies for timers."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

ZONES = ["UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York", "America/Santiago", "Australia/Lord_Howe",
         "Pacific/Apia", "Asia/Kolkata", "Africa/Casablanca", "America/St_Johns", "Asia/Beirut", "Africa/Cairo",
         "America/Nuuk", "Asia/Tehran", "Pacific/Chatham", "Europe/Dublin"]  # fmt: skip
CALENDARS: list[dict[str, Any] | None] = [
    None,
    {"country": "CN", "block": "contiguous"},
    {"country": "CN", "block": "listed"},
    {"country": "US", "block": "listed"},
    {"country": "US", "block": "contiguous"},
    {"country": "DE", "subdiv": "BY", "block": "listed"},
    {"country": "SA", "block": "listed"},
    {"country": "JP", "block": "contiguous"},
]
CLOCKS = [
    "00:00:00",
    "00:30:00",
    "01:15:00",
    "02:00:00",
    "02:30:00",
    "03:20:00",
    "09:00:00",
    "23:30:00",
]


def some(low: int, high: int, most: int = 3) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(low, high), min_size=1, max_size=most, unique=True)


@st.composite
def day_repeats(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from(["normal", "day", "week", "month", "year"]))
    repeat: dict[str, Any] = {"repeatType": kind}
    if kind == "normal":
        return repeat
    if draw(st.booleans()):
        repeat["period"] = draw(st.integers(1, 5))
    if kind == "week" and draw(st.booleans()):
        repeat["weekday"] = draw(some(1, 7))
    if kind in ("month", "year"):
        how = draw(st.sampled_from(["own", "day", "week"]))
        if how == "day":
            repeat["day"] = draw(st.lists(st.sampled_from([1, 5, 15, 28, 29, 30, 31, -1]), min_size=1, max_size=3, unique=True))  # fmt: skip
        elif how == "week":
            week = st.sampled_from([1, 2, 3, 4, 5, -1, -2, -5])
            weeks = st.lists(week, min_size=1, max_size=3, unique=True)
            repeat["week"] = draw(st.one_of(week, weeks))
            repeat["weekday"] = draw(some(1, 7, 2))
        repeat["monthEnd"] = draw(st.sampled_from(["last", "last", "skip"]))
        if kind == "year" and draw(st.booleans()):
            repeat["month"] = draw(some(1, 12))
    return repeat


@st.composite
def workday_repeats(draw: st.DrawFn) -> dict[str, Any]:
    """Repeats that count working days themselves."""
    kind = draw(st.sampled_from(["workday", "workday", "month", "year"]))
    repeat: dict[str, Any] = {"repeatType": kind}
    if draw(st.booleans()):
        repeat["period"] = draw(st.sampled_from([1, 2, 3, 5, 7, 13]))
    if kind != "workday":
        place = st.sampled_from([1, 2, 3, 5, 10, 19, 22, 23, -1, -2, -7, -20, -23])
        places = st.lists(place, min_size=1, max_size=3, unique=True)
        repeat["workday"] = draw(st.one_of(place, places))
    if kind == "year" and draw(st.booleans()):
        repeat["month"] = draw(some(1, 12))
    return repeat


def workday_offsets(
    clocks: tuple[str | None, ...] = (None, "00:00", "02:30", "09:00", "23:59"),
) -> st.SearchStrategy[dict[str, Any]]:
    """Offsets of 1 to 40 working days, and of 300."""
    return st.builds(
        lambda sign, number, clock: {
            "offsetType": sign,
            "offset": number,
            "offsetUnit": "workday",
            **({"time": clock} if clock else {}),
        },
        st.sampled_from([-1, 1]),
        st.one_of(st.integers(1, 7), st.sampled_from([10, 20, 40, 300])),
        st.sampled_from(clocks),
    )


@st.composite
def step_repeats(draw: st.DrawFn) -> dict[str, Any]:
    if draw(st.booleans()):
        return {
            "repeatType": "hour",
            "period": draw(st.sampled_from([1, 2, 3, 5, 7, 24, 25, 48])),
        }
    return {
        "repeatType": "minute",
        "period": draw(st.sampled_from([1, 5, 7, 11, 15, 20, 45, 60, 90, 1440])),
    }


CRON = (
    ["0", "30", "*/15", "5,35", "*", "*/7"],
    ["9", "2", "*/6", "9-17", "*", "0,12"],
    ["*", "1", "13", "29", "31", "1-7", "*/10"],
    ["*", "*", "2", "*/3", "6-8"],
    ["*", "*", "1-5", "5", "0", "sat"],
)
WEEKDAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]
PARTS = {
    "BYMONTH": ["2", "1,7", "3,6,9,12"],
    "BYMONTHDAY": ["1", "-1", "13,31", "29"],
    "BYDAY": ["MO", "MO,TU,WE,TH,FR", "SA,SU", "-1FR", "2TU,MO"],
    "BYYEARDAY": ["1,100,-1", "60"],
    "BYWEEKNO": ["1,20,53"],
    "BYHOUR": ["2", "9,17", "0,12"],
    "BYMINUTE": ["30", "0,30"],
    "BYSETPOS": ["1", "-1", "1,-1"],
}


@st.composite
def custom_repeats(draw: st.DrawFn) -> dict[str, Any]:
    """Cron and RRULE in all their parts; what may not go together is refused when it is read."""
    if draw(st.booleans()):
        return {
            "repeatType": "custom",
            "cron": " ".join(draw(st.sampled_from(field)) for field in CRON),
        }
    parts = [
        f"FREQ={draw(st.sampled_from(['MINUTELY', 'HOURLY', 'DAILY', 'WEEKLY', 'MONTHLY', 'YEARLY']))}"
    ]
    if draw(st.booleans()):
        parts.append(f"INTERVAL={draw(st.sampled_from([2, 3, 5, 45]))}")
    for name in draw(st.lists(st.sampled_from(sorted(PARTS)), max_size=3, unique=True)):
        parts.append(f"{name}={draw(st.sampled_from(PARTS[name]))}")
    return {"repeatType": "custom", "rrule": ";".join(parts)}


@st.composite
def turning_repeats(draw: st.DrawFn) -> dict[str, Any]:
    """What begins within a week or a year of the rule: positions in a week, weeks at the turn of the year."""
    start = f";WKST={draw(st.sampled_from(WEEKDAYS))}"
    hours = draw(st.sampled_from(["", ";BYHOUR=9", ";BYHOUR=2,9"]))
    days = ",".join(
        draw(st.lists(st.sampled_from(WEEKDAYS), min_size=1, max_size=5, unique=True))
    )
    interval = f";INTERVAL={draw(st.sampled_from([1, 1, 2, 3]))}"
    if draw(st.booleans()):
        positions = draw(st.sampled_from(["1", "-1", "2", "1,-1", "3,-2"]))
        rule = f"FREQ=WEEKLY{interval}{start};BYDAY={days}{hours};BYSETPOS={positions}"
    else:
        weeks = draw(st.lists(st.sampled_from([1, 2, 20, 51, 52, 53, -1, -2, -51, -52, -53]), min_size=1, max_size=3, unique=True))  # fmt: skip
        by_day = f";BYDAY={days}" if draw(st.booleans()) else ""
        more = draw(st.sampled_from(["", "", ";BYMONTH=1,12", ";BYSETPOS=1,-1"]))
        rule = f"FREQ=YEARLY{interval}{start};BYWEEKNO={','.join(map(str, weeks))}{by_day}{hours}{more}"
    return {"repeatType": "custom", "rrule": rule}


SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
BESIDE = [timedelta(0), SECOND, -SECOND, HOUR / 2, -HOUR / 2, HOUR, -HOUR]
Moment = tuple[str, timedelta]


def moments() -> st.SearchStrategy[Moment]:
    """When "now" is: any time of a day, or beside the midnight of the task's zone, or beside a change of its clocks."""
    any_time = st.integers(0, 86399).map(lambda n: ("any", timedelta(seconds=n)))
    return st.one_of(
        any_time,
        st.tuples(st.sampled_from(["midnight", "change"]), st.sampled_from(BESIDE)),
    )


def at_moment(
    case: tuple[dict[str, Any], Any], day: datetime, moment: Moment
) -> datetime:
    """The instant that a moment means: of the day, or of the first day from then on on which clocks change."""
    kind, beside = moment
    zone = ZoneInfo(case[0]["timezone"])

    def offset(at: datetime) -> timedelta | None:
        return at.astimezone(zone).utcoffset()

    if kind == "any":
        return day + beside
    found = next(
        (
            n
            for n in range(400)
            if offset(day + timedelta(n)) != offset(day + timedelta(n + 1))
        ),
        None,
    )
    if kind == "midnight" or found is None:
        return (
            datetime.combine(day.astimezone(zone).date(), time(), zone).astimezone(UTC)
            + beside
        )
    low, high = day + timedelta(found), day + timedelta(found + 1)
    while high - low > SECOND:
        middle = low + (high - low) / 2
        low, high = (middle, high) if offset(middle) == offset(low) else (low, middle)
    return high.replace(microsecond=0) + beside


@st.composite
def timers(
    draw: st.DrawFn, repeats: st.SearchStrategy[dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """A raw timerCfg, which may turn out to be refused as one that never comes, and a calendar."""
    start = datetime(2020, 1, 1) + timedelta(draw(st.integers(0, 2500)))
    cfg: dict[str, Any] = {
        "startTime": f"{start:%Y-%m-%d} {draw(st.sampled_from(CLOCKS))}",
        "repeat": draw(repeats),
        "timezone": draw(st.sampled_from(ZONES)),
    }
    calendar = draw(st.sampled_from(CALENDARS))
    if calendar is not None and draw(st.integers(0, 3)):
        cfg["skipHoliday"] = 1
    if draw(st.integers(0, 3)) == 0:
        cfg["workdaysOnly"] = 1
    if "skipHoliday" in cfg or "workdaysOnly" in cfg:
        cfg["holidayPolicy"] = draw(
            st.sampled_from(["next", "previous", "nearest", "skip", "cycle"])
        )
    if draw(st.integers(0, 2)) == 0:
        end = start + timedelta(draw(st.integers(0, 2500)))
        cfg["endTime"] = f"{end:%Y-%m-%d}" + draw(st.sampled_from(["", " 23:59:59"]))
    return cfg, calendar


@st.composite
def windows(draw: st.DrawFn) -> Any:
    """Opening hours: a window or several, by weekdays, on working days, past midnight, in the hours of clock changes."""
    several = [draw(_window()) for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3])))]
    return several[0] if len(several) == 1 and draw(st.booleans()) else several


@st.composite
def _window(draw: st.DrawFn) -> dict[str, Any]:
    usual = [("08:00", "18:00"), ("09:30", "17:15"), ("00:00", "24:00"), ("22:00", "06:00"), ("18:00", "00:00"),
             ("02:15", "02:45"), ("02:30", "03:10"), ("01:00", "03:00"), ("23:59", "00:01")]  # fmt: skip
    opens, closes = draw(st.sampled_from(usual))
    if draw(st.integers(0, 3)) == 0:
        minutes = draw(st.lists(st.integers(0, 1439), min_size=2, max_size=2, unique=True))  # fmt: skip
        opens, closes = (f"{n // 60:02}:{n % 60:02}" for n in minutes)
    window: dict[str, Any] = {"from": opens, "to": closes}
    days = draw(st.sampled_from(["all", "all", "weekdays", "workdays", "workdays"]))
    if days == "weekdays":
        window["weekdays"] = draw(some(1, 7, 5))
    elif days == "workdays":
        window["workdays"] = 1
    return window
