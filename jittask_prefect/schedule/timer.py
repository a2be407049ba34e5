"""Timer: a `timerCfg`, its calendar and its zone; and the occurrences that follow from them.

The rules are those of RFC 5545 for wall clocks (§3.3.5: a time in a DST gap moves forward by the gap, one in an overlap
is the first), elapsed time for minute and hour, then the holiday rule, then the walls of start and end. Instants are
compared in UTC throughout: Python compares the wall clocks of two datetimes that share a zone.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from jittask_prefect.errors import ArgumentError, ConfigError, Problem
from jittask_prefect.schedule import bulk, clock
from jittask_prefect.schedule.calendar import Calendar, CalendarCfg
from jittask_prefect.schedule.cron import Cron
from jittask_prefect.schedule.holiday_moves import HolidayMoves
from jittask_prefect.schedule.instants import EARLIEST, LATEST, day_after, in_utc
from jittask_prefect.schedule.reach import Reach, reach
from jittask_prefect.schedule.recur import phase
from jittask_prefect.schedule.rrule import RRule
from jittask_prefect.schedule.series import Explained, Occurrence, Over, Series
from jittask_prefect.schedule.spec import Offset, TimerCfg, read_timer, read_zone
from jittask_prefect.validation import shown

__all__ = ["Explained", "Occurrence", "Series", "Timer"]

Field = date | datetime | None


class Timer:
    """When a task is due.

    Args:
        timerCfg: As in e.json, or read already.
        calendar: None, a country code, a mapping as in app.json, or a Calendar; None: what `timerCfg` names as a
            country code.
        timezone: IANA name of the zone where `timerCfg` names none; UTC where neither does.

    Raises:
        ConfigError: With every problem of `timerCfg`; an unknown zone or calendar; skipHoliday without a calendar.
    """

    cfg: TimerCfg
    zone: ZoneInfo
    calendar: Calendar | None
    moves: HolidayMoves

    def __init__(
        self,
        timerCfg: Mapping[str, object] | TimerCfg,
        calendar: object = None,
        timezone: str | None = None,
    ) -> None:
        if isinstance(timerCfg, TimerCfg):
            self.cfg = timerCfg
        else:
            rows = (
                isinstance(timerCfg, Mapping)
                and "startField" in timerCfg
                and "startTime" not in timerCfg
            )
            self.cfg = read_timer(timerCfg, rows=rows)
        cfg = self.cfg
        named = cfg.timezone or ("UTC" if timezone is None else timezone)
        try:
            self.zone = read_zone(named)
        except ValueError as error:
            raise ConfigError(
                Problem("", "timezone", shown(named), str(error))
            ) from None
        self.calendar = (
            Calendar.of(cfg.calendar, "timerCfg.calendar")
            if calendar is None
            else Calendar.of(calendar)
        )
        if cfg.skip_holiday and self.calendar is None:
            allowed = "a calendar beside it: a country code, or a name in app.json's calendars"
            raise ConfigError(
                Problem("", "timerCfg.skipHoliday", "1 without a calendar", allowed)
            )
        known = self.calendar or Calendar(CalendarCfg())
        self.moves = HolidayMoves(
            known, cfg.skip_holiday, cfg.workdays_only, cfg.holiday_policy
        )
        self._over: dict[int, datetime] = {}
        self._phase = (
            phase(cfg.repeat, custom=True) if cfg.rows and self.moves.active else None
        )
        self._scheduled = None if cfg.rows else self._series(cfg.start_time, None)

    def __repr__(self) -> str:
        return f"Timer({self.cfg.dump()!r}, timezone={self.zone.key!r})"

    @property
    def sub_daily(self) -> bool:
        """Whether the cycle is finer than a day: then a holiday drops occurrences instead of moving them."""
        repeat = self.cfg.repeat
        if repeat.repeat_type in ("minute", "hour"):
            return True
        if repeat.cron is not None:
            return Cron.read(repeat.cron).several
        return repeat.rrule is not None and RRule.read(repeat.rrule).several

    def series(self, start: Field = None, end: Field = None) -> Series | None:
        """The occurrences of one start.

        Args:
            start: For rows the value of `startField`: a date, a naive datetime (local to the task's zone) or an aware
                one. For a scheduled timer nothing.
            end: For rows the value of `endField`, likewise; None: the row has no end.

        Returns:
            The series; None for a row without a start.
        """
        if not self.cfg.rows:
            if start is not None or end is not None:
                raise ArgumentError(
                    "a scheduled timer has one series: series() takes no row values"
                )
            return self._scheduled
        for value in (start, end):
            if value is not None and not isinstance(value, date):
                raise ArgumentError(
                    f"a row's date {shown(value)}; allowed: a date, or a datetime with or without a zone"
                )
        return None if start is None else self._series(start, end)

    def occurrences(self, after: datetime, before: datetime) -> Iterator[datetime]:
        """The due times of a scheduled timer.

        Args:
            after: First instant, inclusive; a naive one is local to the task's zone.
            before: Last instant, exclusive; likewise.

        Returns:
            Aware datetimes in the task's zone, in order, each instant once.

        Raises:
            ArgumentError: This is the timer of a row task.
        """
        return (found.due for found in self._one().between(after, before))

    def explain(self, after: datetime, before: datetime) -> list[Explained]:
        """Every nominal occurrence that lies in, or moves into, [after, before), with what became of it and why."""
        return self._one().explain(after, before)

    def nextTime(self, now: datetime | None = None) -> datetime | None:
        """The first due time after `now` (aware, or naive in the task's zone; None: the present); None without one."""
        found = self._one().next(clock.now() if now is None else now)
        return None if found is None else found.due

    def next_times(
        self,
        starts: Iterable[Field],
        now: datetime,
        ends: Iterable[Field] | None = None,
    ) -> list[datetime | None]:
        """The first due time after `now` of each of many rows, a million in seconds; see `bulk.next_times`."""
        if not self.cfg.rows:
            raise ArgumentError("a scheduled timer has no rows: nextTime(now)")
        return bulk.next_times(self, starts, now, ends)

    def reach(
        self, after: datetime, before: datetime, *, whole_days: bool = False
    ) -> Reach:
        """Which values of `startField` can have an occurrence due in [after, before).

        Args:
            after: First instant, aware or local to the task's zone.
            before: Last instant, exclusive.
            whole_days: The field holds dates.

        Returns:
            Spans of wall times in the task's zone, for some repeats with days of the year or month; never too narrow.
        """
        return reach(self, after, before, whole_days)

    def _one(self) -> Series:
        if self._scheduled is None:
            raise ArgumentError(
                "a row timer has occurrences for a row only: series(start, end)"
            )
        return self._scheduled

    def _series(self, start: Field, end: Field) -> Series:
        cfg = self.cfg
        wall: datetime | None = None
        anchor: datetime | None = None
        stop: datetime | None = None
        try:
            assert start is not None
            wall, anchor = self._place(start, cfg.start_offset)
            stop = self._stop(end)
        except OverflowError:
            wall = anchor = None
        if anchor is not None and not EARLIEST < anchor < LATEST:
            wall = anchor = (
                None  # a date at the edge of the calendar, as databases hold for "never": never due
            )
        hard = anchor if not cfg.rows and cfg.repeat.repeat_type != "normal" else None
        meant = None if wall is None or start is None else self._meant(start, wall)
        series = Series(
            self.zone, cfg.repeat, self.moves, wall, anchor, hard, stop, meant
        )
        if self._phase is not None and wall is not None and meant is None:
            series.over = Over(self._over, self._phase(wall))
        return series

    def _meant(self, start: date, wall: datetime) -> int | None:
        """The day of the month that a row's series counts from, where an offset of months met a shorter month.

        31 January with an offset of a month is due on 28 February; monthly from there, the next is 31 March.
        """
        repeat, offset = self.cfg.repeat, self.cfg.start_offset
        if (
            offset is None
            or offset.unit not in ("month", "year")
            or repeat.repeat_type not in ("month", "year")
        ):
            return None
        if repeat.month_end == "skip" or wall.day < 28:
            return None
        if isinstance(start, datetime) and start.tzinfo is not None:
            start = start.astimezone(self.zone)
        return start.day if start.day > wall.day else None

    def _stop(self, end: Field) -> datetime | None:
        """The last instant on which the series may have an occurrence, UTC; None without an end."""
        cfg = self.cfg
        offset = None
        if cfg.end_time is not None:
            end = cfg.end_time
        elif cfg.end_time_type == 2:
            offset = cfg.end_offset
        else:
            return None
        if end is None:
            return None
        try:
            wall, instant = self._place(end, offset)
            whole_day = not isinstance(end, datetime) and not (
                offset and (offset.time is not None or _elapses(offset))
            )
            return (
                day_after(wall.date(), self.zone) - timedelta(microseconds=1)
                if whole_day
                else instant
            )
        except OverflowError:
            if end.year < 5000:
                raise
            return None

    def wall(self, value: date) -> datetime | None:
        """The wall time, naive, at which the series of a row's `startField` value begins, where that needs no instant.

        None for an aware value, for an offset of elapsed time or one that met a shorter month, and at the calendar's
        ends.
        """
        offset = self.cfg.start_offset
        if isinstance(value, datetime):
            if value.tzinfo is not None:
                return None
            at = value.replace(fold=0) if value.fold else value
        else:
            at = datetime(value.year, value.month, value.day)
        if offset is not None:
            if _elapses(offset):
                return None
            try:
                at = _calendrical(at, offset)
            except OverflowError:
                return None
            at = at if offset.time is None else datetime.combine(at, offset.time)
            if self._meant(value, at) is not None:
                return None
        return at if 1 < at.year < 9999 else None

    def from_wall(self, wall: datetime) -> Series:
        """The series of a row that begins at a wall time, offset included, and has no end."""
        return Series(
            self.zone,
            self.cfg.repeat,
            self.moves,
            wall,
            in_utc(wall, self.zone),
            None,
            None,
        )

    def _place(self, value: date, offset: Offset | None) -> tuple[datetime, datetime]:
        """The wall time (naive) and the instant (UTC) of a field's value with its offset."""
        if not isinstance(value, datetime):
            wall = datetime(value.year, value.month, value.day)
            instant = in_utc(wall, self.zone)
        elif value.tzinfo is None:
            wall, instant = value, in_utc(value, self.zone)
        else:
            instant = value.astimezone(UTC)
            wall = instant.astimezone(self.zone).replace(tzinfo=None)
        if offset is None:
            return wall, instant
        if _elapses(offset):
            instant += offset.amount * timedelta(**{f"{offset.unit}s": 1})
            return instant.astimezone(self.zone).replace(tzinfo=None), instant
        moved = _calendrical(wall, offset)
        if offset.time is not None:
            moved = datetime.combine(moved, offset.time)
        return (wall, instant) if moved == wall else (moved, in_utc(moved, self.zone))


def _elapses(offset: Offset) -> bool:
    return offset.elapsed and offset.amount != 0


def _calendrical(wall: datetime, offset: Offset) -> datetime:
    """A wall time moved by days or longer, same clock time; a day that the month lacks is its last."""
    amount = offset.amount
    if offset.unit in ("month", "year"):
        month = (
            wall.year * 12
            + wall.month
            - 1
            + amount * (12 if offset.unit == "year" else 1)
        )
        year, number = month // 12, month % 12 + 1
        if not 1 <= year <= 9999:
            raise OverflowError("beyond the calendar")
        return wall.replace(
            year=year,
            month=number,
            day=min(wall.day, monthrange(year, number)[1]),
            fold=0,
        )
    days = {"day": 1, "week": 7}.get(offset.unit, 0)
    return (wall + timedelta(days=amount * days)).replace(fold=0) if amount else wall
