"""The calendars of an app: those that app.json names, and the countries' own."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from jittask_prefect.errors import ConfigError, Problem
from jittask_prefect.schedule.calendar import Calendar, CalendarCfg


class Calendars:
    """What an app knows about its calendars.

    Args:
        usual: The name of the calendar of tasks that name none.
        cfgs: The calendars that app.json describes, by name.
    """

    def __init__(self, usual: str | None, cfgs: Mapping[str, CalendarCfg]) -> None:
        self._usual = usual
        self._calendar_cfgs = cfgs
        self._calendars: dict[str, Calendar] = {}
        self._calendar_lock = threading.Lock()

    def calendars(self) -> list[str]:
        """The names of the calendars that app.json names, and its default one."""
        return list(
            dict.fromkeys(
                name for name in (self._usual, *self._calendar_cfgs) if name is not None
            )
        )

    def calendar(self, name: str | None) -> Calendar | None:
        """A calendar by its name in app.json, or by a country code (`DE`, or `DE-BY`).

        Raises:
            ConfigError: There is neither.
        """
        if name is None:
            return None
        with self._calendar_lock:
            if name not in self._calendars:
                if name in self._calendar_cfgs:
                    try:
                        self._calendars[name] = Calendar(
                            self._calendar_cfgs[name], f"calendars.{name}"
                        )
                    except ConfigError as error:
                        raise error.within("app.json") from None
                else:
                    try:
                        self._calendars[name] = Calendar.read(name)  # type: ignore[assignment]
                    except ConfigError as error:
                        known = ", ".join(sorted(self._calendar_cfgs)) or "none"
                        allowed = f"a calendar of app.json ({known}) or a country code such as DE or DE-BY"
                        if error.problems[0].key.endswith("subdiv"):
                            allowed += f"; of {name.partition('-')[0]}: {error.problems[0].allowed}"
                        raise ConfigError(
                            Problem("", "timerCfg.calendar", repr(name), allowed)
                        ) from None
            return self._calendars[name]
