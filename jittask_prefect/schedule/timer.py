"""Timer: a `timerCfg`, its calendar and its zone; and the occurrences that follow from them.

The rules, in this order: RFC 5545 for wall clocks, elapsed time for minute and hour; the holiday rule; the opening
hours; start and end. By RFC 5545 §3.3.5 a time in a DST gap moves forward by the gap, and a time in an overlap is the first. Instants are
compared in UTC throughout: Python compares the wall clocks of two datetimes that share a zone.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from copy import copy
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

from jittask_prefect.errors import ArgumentError, invalid
from jittask_prefect.schedule import bulk, clock
from jittask_prefect.schedule.calendar import Calendar, CalendarCfg
from jittask_prefect.schedule.candidates import Candidates
from jittask_prefect.schedule.custom import CustomRule
from jittask_prefect.schedule.explanation import Explained
from jittask_prefect.schedule.holiday_moves import HolidayMoves
from jittask_prefect.schedule.instants import (
    EARLIEST,
    LATEST,
    TICK,
    day_after,
    in_utc,
    midnight,
    wall_time,
)
from jittask_prefect.schedule.levels import Levels
from jittask_prefect.schedule.offset import Level, Offset
from jittask_prefect.schedule.plain_series import NEVER, PlainSeries
from jittask_prefect.schedule.reach import Reach, reach
from jittask_prefect.schedule.reading import read_timer
from jittask_prefect.schedule.recur import day_phase
from jittask_prefect.schedule.series import Exhausted, Occurrence, Series
from jittask_prefect.schedule.spec import TimerCfg
from jittask_prefect.schedule.windows import Windows
from jittask_prefect.schedule.zones import read_zone
from jittask_prefect.validation import shown

__all__ = ["Explained", "Occurrence", "Series", "Timer"]

Field = date | datetime | None


class Timer:
    """When a task is due.

    Args:
        timerCfg: As in e.json, or read already.
        calendar: None, a country code, a mapping as in app.json, or a Calendar; None: the country code that `timerCfg`
            names.
        timezone: IANA name of the zone where `timerCfg` names none; UTC where neither does.

    Raises:
        ConfigError: With every problem of `timerCfg`; an unknown zone or calendar; skipHoliday without a calendar.
    """

    cfg: TimerCfg
    zone: ZoneInfo
    calendar: Calendar | None
    moves: HolidayMoves
    windows: Windows
    levels: Levels | None
    """The named due times of a row; None where there is one."""
    counts_workdays: bool
    """Whether a due time is found by counting working days."""

    def __init__(
        self,
        timerCfg: Mapping[str, object] | TimerCfg,
        calendar: object = None,
        timezone: str | None = None,
    ) -> None:
        if isinstance(timerCfg, TimerCfg):
            self.cfg = timerCfg
        else:
            given = timerCfg if isinstance(timerCfg, Mapping) else {}
            rows = "startField" in given and "startTime" not in given
            self.cfg = read_timer(timerCfg, rows=rows)

        cfg = self.cfg
        named = cfg.timezone or ("UTC" if timezone is None else timezone)
        try:
            self.zone = read_zone(named)
        except ValueError as error:
            raise invalid("timezone", shown(named), str(error)) from None

        if calendar is None:
            self.calendar = Calendar.read(cfg.calendar, "timerCfg.calendar")
        else:
            self.calendar = Calendar.read(calendar)

        if cfg.skip_holiday and self.calendar is None:
            found = "1 without a calendar"
            allowed = "a calendar beside it: a country code such as DE or DE-BY"
            raise invalid("timerCfg.skipHoliday", found, allowed)

        self.moves = HolidayMoves(
            self.calendar or Calendar(CalendarCfg()),
            cfg.skip_holiday,
            cfg.workdays_only,
            cfg.holiday_policy,
        )
        self.windows = Windows(cfg.window, self.zone, self.moves.calendar.workdays)
        self._prepare()

    def _prepare(self) -> None:
        """Make the parts that the configuration alone decides."""
        cfg = self.cfg
        self.counts_workdays = cfg.counts_workdays
        self._exhausted: dict[Hashable, datetime] = {}
        # Opening hours leave out times by their minutes, which rows of a phase need not share.
        left_out = self.sub_daily and self.windows.active
        shared = cfg.rows and self.moves.active and not left_out
        of = (cfg.repeat, self.moves.calendar)
        self._phase = day_phase(*of, custom=True) if shared else None
        self.levels = Levels(self) if cfg.levels else None
        self._scheduled = None if cfg.rows else self._series(cfg.start_time, None)

    def of_level(self, level: Level, *, repeats: bool) -> Timer:
        """A timer of one of the levels alone; see `TimerCfg.of_level`."""
        found = copy(self)
        found.cfg = self.cfg.of_level(level, repeats=repeats)
        found._prepare()
        return found

    def __repr__(self) -> str:
        return f"Timer({self.cfg.dump()!r}, timezone={self.zone.key!r})"

    def elsewhere(self, zone: str, calendar: Calendar | None) -> Timer:
        """The same rule by another zone and another calendar.

        Args:
            zone: IANA name.
            calendar: The calendar; None: that of the rule.
        """
        own = {"timezone": zone, "timezone_field": None, "calendar_field": None}
        return Timer(self.cfg.model_copy(update=own), calendar)

    @property
    def sub_daily(self) -> bool:
        """Whether the cycle is finer than a day: then holidays and opening hours drop occurrences instead of moving them."""
        repeat = self.cfg.repeat
        if repeat.cron is None and repeat.rrule is None:
            return repeat.repeat_type in ("minute", "hour")
        return CustomRule.read(repeat.cron, repeat.rrule).sub_daily

    @property
    def days_digest(self) -> str:
        """A short text that changes with the days of the calendar that decide here; empty where none does."""
        parts = [self.moves.digest] if self.moves.active else []
        if self.cfg.counts_workdays or self.cfg.opens_on_workdays:
            parts.append(self.moves.calendar.workdays.digest)
        return "-".join(parts)

    # Occurrences

    def series(self, start: Field = None, end: Field = None) -> Series | None:
        """The occurrences of a start.

        Args:
            start: For rows the value of `startField`: a date, a naive datetime (local to the task's zone) or an aware
                datetime. For a scheduled timer nothing.
            end: For rows the value of `endField`, likewise; None: the row has no end.

        Returns:
            The series; None for a row without a start.

        Raises:
            ArgumentError: Row values for a scheduled timer, or a value that is no date.
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

        if start is None:
            return None
        if self.levels is not None:
            return self.levels.series(start, end)
        return self._series(start, end)

    def occurrences(self, after: datetime, before: datetime) -> Iterator[datetime]:
        """The due times of a scheduled timer.

        Args:
            after: First instant, inclusive; a naive datetime is local to the task's zone.
            before: Last instant, exclusive; likewise.

        Returns:
            Aware datetimes in the task's zone, in order, each instant once.

        Raises:
            ArgumentError: This is the timer of a row task.
        """
        return (found.due for found in self.only_series().between(after, before))

    def explain(self, after: datetime, before: datetime) -> list[Explained]:
        """Every nominal occurrence that lies in, or moves into, [after, before), with its fate and the reason."""
        return self.only_series().explain(after, before)

    def nextTime(self, now: datetime | None = None) -> datetime | None:
        """The first due time after `now` (aware, or naive in the task's zone; None: the present); None otherwise."""
        found = self.only_series().next(clock.now() if now is None else now)
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
        if self.levels is not None:
            return self.levels.next_times(starts, now, ends)
        return bulk.next_times(self, starts, now, ends)

    def moved_by(self, nominal: datetime) -> str | None:
        """The reason why an occurrence of days or longer leaves its nominal time (aware), by today's calendar; None without a move."""
        rules = NEVER, self.moves, self.windows, self.zone, self.zone
        wall = wall_time(nominal, self.zone)
        return Candidates(*rules, wall, nominal.astimezone(UTC)).placed(wall).moved_by

    def without_windows(self) -> Timer:
        """The same timer without opening hours: when its occurrences would be due, were it always open."""
        cfg = self.cfg.model_copy(update={"window": ()})
        return Timer(cfg, self.calendar, self.zone.key)

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
        if self.levels is not None:
            return self.levels.reach(after, before, whole_days)
        return reach(self, after, before, whole_days)

    def only_series(self) -> PlainSeries:
        """The series of a scheduled timer.

        Raises:
            ArgumentError: This is the timer of a row task.
        """
        if self._scheduled is None:
            raise ArgumentError(
                "a row timer has occurrences for a row only: series(start, end)"
            )
        return self._scheduled

    # From a value to a start and an end

    def _series(self, start: Field, end: Field) -> PlainSeries:
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
            # A date at the edge of the calendar, as databases hold for "never": never due.
            wall = anchor = None

        hard = anchor if not cfg.rows and cfg.repeat.repeat_type != "normal" else None
        day = None if wall is None or start is None else self._day_meant(start, wall)
        moved = self.moves, self.windows
        series = PlainSeries(
            self.zone, cfg.repeat, *moved, wall, anchor, hard, stop, day
        )
        if self.counts_workdays and start is not None:
            series.counted_from = start
        if self._phase is not None and wall is not None and day is None:
            series.exhausted = Exhausted(self._exhausted, self._phase(wall))

        return series

    def _day_meant(self, start: date, wall: datetime) -> int | None:
        """The day of the month that a row's series counts from, where an offset of months met a shorter month.

        31 January with an offset of a month is due on 28 February; monthly from there, the next is 31 March.
        """
        repeat, offset = self.cfg.repeat, self.cfg.start_offset
        if offset is None or offset.unit not in ("month", "year"):
            return None
        if repeat.repeat_type not in ("month", "year") or repeat.month_end == "skip":
            return None
        if isinstance(start, datetime) and start.tzinfo is not None:
            start = start.astimezone(self.zone)

        return start.day if start.day > wall.day >= 28 else None

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
            if isinstance(end, datetime) or (
                offset and (offset.time or offset.duration)
            ):
                return instant

            return day_after(wall.date(), self.zone) - TICK
        except OverflowError:
            if end.year < 5000:
                raise

            return None

    def _place(self, value: date, offset: Offset | None) -> tuple[datetime, datetime]:
        """The wall time (naive) and the instant (UTC) of a field's value with its offset."""
        if not isinstance(value, datetime):
            wall = midnight(value)
            instant = in_utc(wall, self.zone)
        elif value.tzinfo is None:
            wall, instant = value, in_utc(value, self.zone)
        else:
            instant = value.astimezone(UTC)
            wall = wall_time(instant, self.zone)

        if offset is None:
            return wall, instant

        if (duration := offset.duration) is not None:
            instant += duration
            return wall_time(instant, self.zone), instant

        moved = offset.moved(wall, self.moves.calendar)
        return (wall, instant) if moved == wall else (moved, in_utc(moved, self.zone))

    def start_wall(self, value: date) -> datetime | None:
        """The naive wall time at which the series of a row's `startField` value begins, where that needs no instant.

        None for an aware value, for an offset of elapsed time, for an offset that met a shorter month, and at the calendar's
        ends.
        """
        offset = self.cfg.start_offset
        wall = value if isinstance(value, datetime) else midnight(value)
        if wall.tzinfo is not None:
            return None

        if offset is not None:
            try:
                moved = offset.moved(wall, self.moves.calendar)
            except OverflowError:
                return None

            if offset.duration is not None or self._day_meant(value, moved) is not None:
                return None

            wall = moved

        return wall.replace(fold=0) if 1 < wall.year < 9999 else None

    def series_from(self, wall: datetime) -> PlainSeries:
        """The series of a row that begins at a wall time, offset included, and has no end."""
        instant = in_utc(wall, self.zone)
        rule = self.zone, self.cfg.repeat, self.moves, self.windows
        return PlainSeries(*rule, wall, instant, None, None)
