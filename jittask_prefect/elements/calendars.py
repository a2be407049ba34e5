"""The calendars of an app: those that app.json names, and the countries' own."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from jittask_prefect.elements import holiday_files
from jittask_prefect.elements.project import Place
from jittask_prefect.elements.task_at_work import calendar_at_work
from jittask_prefect.errors import ArgumentError, ConfigError, invalid
from jittask_prefect.schedule.calendar import Calendar, CalendarCfg
from jittask_prefect.schedule.spec import TimerCfg
from jittask_prefect.schedule.work_calendar import WorkCalendar
from jittask_prefect.validation import quoted


class Calendars:
    """The calendars of an app.

    Args:
        place: The app's place.
        usual: The name of the calendar of tasks that name none.
        cfgs: The calendars that app.json describes, by name.
    """

    def __init__(
        self, place: Place, usual: str | None, cfgs: Mapping[str, CalendarCfg]
    ) -> None:
        self._place = place
        self._usual = usual
        self._calendar_cfgs = cfgs
        self._calendars: dict[str, Calendar] = {}
        self._calendar_lock = threading.Lock()

    def calendars(self) -> list[str]:
        """The names of the calendars that app.json names, the usual calendar first."""
        usual = () if self._usual is None else (self._usual,)
        return list(dict.fromkeys([*usual, *self._calendar_cfgs]))

    def calendar_named(self, name: str | None) -> Calendar | None:
        """A calendar by its name in app.json, or by a country code (`DE`, or `DE-BY`).

        Raises:
            ConfigError: Neither app.json nor the countries know the name.
        """
        if name is None:
            return None

        with self._calendar_lock:
            if name not in self._calendars:
                own = name in self._calendar_cfgs
                made = self._own(name) if own else self._of_country(name)
                self._calendars[name] = made

            return self._calendars[name]

    def calendar(self, name: str | None = None) -> WorkCalendar:
        """The working days of a calendar, for the code of tasks: `app.calendar("DE-BY").nextWorkday(day, 10)`.

        Args:
            name: A name of app.json's `calendars`, or a country code such as `DE` or `DE-BY`. Absent: the calendar that
                the task at work names; else the app's own; else Monday to Friday.

        Raises:
            ArgumentError: The name is empty, or no text.
            ConfigError: Neither app.json nor the countries know the name.
        """
        if name is not None and not (isinstance(name, str) and name):
            raise ArgumentError(f"calendar {quoted(name)}; allowed: {self._known()}")
        found = self.calendar_named(name or calendar_at_work() or self._usual)
        return WorkCalendar(found or Calendar(CalendarCfg()))

    def calendar_for(self, timer: TimerCfg) -> Calendar | None:
        """The calendar of a timer: its own, else the app's where a rule needs a calendar.

        A task without such a rule works although the app's calendar is broken.

        Raises:
            ConfigError: A rule needs a calendar, and there is none.
        """
        usual = self._usual if timer.asks_calendar else None
        found = self.calendar_named(timer.calendar or usual)
        if found is None and timer.skip_holiday:
            allowed = f"a calendar beside it: {self._known()}"
            raise invalid("timerCfg.skipHoliday", "1 without a calendar", allowed)
        return found

    def _known(self) -> str:
        """The calendars that a task may name."""
        known = ", ".join(sorted(self._calendar_cfgs)) or "none"
        return f"a calendar of {self._place.file} ({known}) or a country code such as DE or DE-BY"

    def _own(self, name: str) -> Calendar:
        try:
            cfg, key = self._calendar_cfgs[name], f"calendars.{name}"
            listed = holiday_files.read(self._place.path, cfg.files, key)
            return Calendar(cfg, key, listed)
        except ConfigError as error:
            raise self._place.told(error) from None

    def _of_country(self, name: str) -> Calendar:
        try:
            return Calendar(CalendarCfg(country=name))
        except ConfigError as error:
            allowed = self._known()
            problem = error.problems[0]
            if problem.key.endswith("subdiv"):
                allowed += f"; of {name.partition('-')[0]}: {problem.allowed}"
            raise invalid("timerCfg.calendar", repr(name), allowed) from None
