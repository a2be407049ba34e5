"""Laws: what holds for every timer, against a brute force that walks from day to day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from day_by_day import occurrences
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from timer_cases import day_repeats, step_repeats, timers

from jittask_prefect.errors import ConfigError
from jittask_prefect.schedule.timer import Timer

CFG = tuple[dict[str, Any], dict[str, Any] | None]
SOME_INSTANT = st.integers(0, 2900).map(
    lambda n: datetime(2019, 6, 1, 5, tzinfo=UTC) + timedelta(n)
)
relaxed = settings(
    max_examples=75, deadline=None, suppress_health_check=list(HealthCheck)
)


def made(case: CFG) -> Timer:
    try:
        return Timer(*case)
    except ConfigError as error:
        assert any(
            "comes" in problem.allowed or "has, or monthEnd" in problem.allowed
            for problem in error.problems
        )
        assume(False)
        raise


@relaxed
@given(timers(day_repeats()), SOME_INSTANT, st.integers(1, 500))
def test_days_and_longer_are_those_of_the_brute_force(
    case: CFG, after: datetime, days: int
) -> None:
    before = after + timedelta(days)
    assert [
        at.astimezone(UTC) for at in made(case).occurrences(after, before)
    ] == occurrences(*case, after, before)


@relaxed
@given(timers(step_repeats()), SOME_INSTANT, st.integers(1, 20))
def test_minutes_and_hours_are_those_of_the_brute_force(
    case: CFG, after: datetime, days: int
) -> None:
    before = after + timedelta(days)
    assert [
        at.astimezone(UTC) for at in made(case).occurrences(after, before)
    ] == occurrences(*case, after, before)


@relaxed
@given(timers(st.one_of(day_repeats(), step_repeats())), SOME_INSTANT)
def test_next_is_the_first_of_what_follows_and_contains_finds_it(
    case: CFG, now: datetime
) -> None:
    timer = made(case)
    series = timer.series()
    assert series is not None
    following = next(
        timer.occurrences(now + timedelta(microseconds=1), now + timedelta(800)), None
    )
    found = timer.nextTime(now)
    if following is None:
        assert found is None or found >= now + timedelta(800)
        return
    assert found == following
    at = series.due_at(found)
    assert at is not None and at.due == found
    assert (
        series.due_at(found + timedelta(seconds=1)) is None
        or case[0]["repeat"]["repeatType"] == "minute"
    )


@relaxed
@given(timers(day_repeats()), SOME_INSTANT, st.integers(1, 300))
def test_windows_that_meet_share_and_lose_nothing(
    case: CFG, after: datetime, days: int
) -> None:
    timer = made(case)
    end = after + timedelta(days)
    middle = after + timedelta(days) / 3
    split = [*timer.occurrences(after, middle), *timer.occurrences(middle, end)]
    assert split == list(timer.occurrences(after, end))


@relaxed
@given(timers(st.one_of(day_repeats(), step_repeats())))
def test_what_is_written_is_read_back_the_same(case: CFG) -> None:
    timer = made(case)
    again = Timer(timer.cfg.dump(), case[1])
    assert again.cfg == timer.cfg and again.cfg.dump() == timer.cfg.dump()


@relaxed
@given(timers(day_repeats()), SOME_INSTANT, st.integers(1, 100))
def test_explain_tells_the_same_as_occurrences(
    case: CFG, after: datetime, days: int
) -> None:
    timer = made(case)
    before = after + timedelta(days)
    told = {
        at.due
        for at in timer.explain(after, before)
        if at.due is not None and after <= at.due < before
    }
    assert sorted(told) == list(timer.occurrences(after, before))
    for at in timer.explain(after, before):
        assert at.due is not None or at.note
        assert set(at.as_dict()) == {
            "nominal",
            "due",
            "offset",
            "movedFrom",
            "because",
            "zone",
            "note",
        }
