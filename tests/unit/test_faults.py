"""`benchmarks/faults.py`: what it tells beside its counters, and how it takes the description of a system."""

from __future__ import annotations

import importlib
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
BEGIN = datetime(2026, 11, 30, 12, tzinfo=UTC)


def test_pieces_of_a_campaign_have_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A campaign of hours runs in pieces, each of which adds its recoveries to a file."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    watching = importlib.import_module("faulting.watch")
    journal = importlib.import_module("faulting.journal").Journal()
    file = tmp_path / "times.jsonl"
    for done, kind in ((2, "kill Redis"), (4, "kill Redis"), (9, "freeze the sync")):
        watch = watching.Watch("sqlite://", journal, 3.0)
        watch.stop()
        due = BEGIN.replace(tzinfo=None) - timedelta(seconds=1)
        watch.seen[1, due] = BEGIN + timedelta(seconds=done)
        piece = watching.Recoveries(file)
        piece.add(kind, watch, BEGIN, BEGIN + timedelta(seconds=1))
    assert piece.number == {"kill Redis": 2, "freeze the sync": 1}
    assert piece.next_row == {"kill Redis": [1.0, 3.0], "freeze the sync": [8.0]}
    assert piece.backlog == {"kill Redis": [0.0, 3.0], "freeze the sync": [8.0]}


@pytest.fixture
def faulting(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of the campaign, by its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def module(name: str) -> ModuleType:
        return importlib.import_module(f"faulting.{name}")

    return module


HEAD = 'api = "http://127.0.0.1:1/api"\ndatabase = "sqlite://"\n'
FAULT = '[[faults]]\nname = "kill"\npart = "p"\nbegin = "true"\n'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (HEAD, "the keys are api, database; allowed: api, database, faults, sync; needed: api, database, faults"),
        (HEAD + "faults = []", "faults = []; allowed: a list"),
        (HEAD + "faults = 3", "faults = 3; allowed: a list"),
        (HEAD + "faults = [3]", "fault 1: 3; allowed: a table"),
        (HEAD + "sync = 0\n" + FAULT, "sync = 0; allowed: above 0"),
        (HEAD + "secs = 3\n" + FAULT, "the keys are api, database, faults, secs; allowed: api, database, faults, sync;"),
        (HEAD + FAULT + FAULT + "stop = 3", "fault 2: the keys are begin, name, part, stop; allowed: begin, end,"),
        (HEAD + FAULT + "end = ''", "fault 1: end = ''; allowed: a text"),
        (HEAD + FAULT + "others = 'yes'", "fault 1: others = 'yes'; allowed: true or false"),
        (HEAD + FAULT + "weight = 0", "fault 1: weight = 0; allowed: above 0"),
        (HEAD + FAULT + "seconds = 3", "fault 1: seconds = 3; allowed: a list"),
        (HEAD + FAULT + "seconds = [3]", "fault 1: seconds = [3]; allowed: [shortest, longest]"),
        (HEAD + FAULT + "seconds = [3, 1]", "fault 1: seconds = [3, 1]; allowed: [shortest, longest]"),
        (HEAD + FAULT + "seconds = ['a', 'b']", "fault 1: seconds = ['a', 'b']; allowed: [shortest, longest]"),
        (HEAD + "faults = ", "Invalid value (at end of document)"),
        (None, "No such file or directory"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_description_is_named(
    tmp_path: Path, faulting: Any, content: str | None, said: str
) -> None:
    file = tmp_path / "faults.toml"
    if content is not None:
        file.write_text(content)
    description = faulting("description")
    with pytest.raises(description.DescriptionError) as error:
        description.read(file)
    assert said in str(error.value) and str(file) in str(error.value)


def test_the_described_faults_can_be_read(faulting: Any) -> None:
    cluster = BENCHMARKS.parent / "deploy" / "cluster"
    for file in cluster.glob("*.toml"):
        assert faulting("description").read(file).faults


class Still:
    """A watch of a system in which no row is late."""

    def open(self, until: datetime) -> list[Any]:
        return []

    def is_late(self) -> bool:
        return False

    def first_after(self, moment: datetime) -> datetime:
        return moment

    def last_late(self, begin: datetime) -> None:
        return None


def campaign(faulting: Any, **about: Any) -> Any:
    """A campaign with one fault."""
    fault = faulting("description").Fault("kill a part", "part1", **about)
    system = faulting("description").System("", "", (fault,))
    return faulting("campaign").Campaign(system, Still(), seed=1)


def test_a_campaign_that_is_stopped_ends_its_faults(
    tmp_path: Path, faulting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A staging system is left as it was."""
    log = tmp_path / "log"
    made = campaign(faulting, begin=f"echo begun >> {log}", end=f"echo ended >> {log}")

    def stop(_: float) -> None:
        raise SystemExit(143)

    clock = SimpleNamespace(sleep=stop, monotonic=time.monotonic)
    monkeypatch.setattr(faulting("campaign"), "time", clock)
    with pytest.raises(SystemExit):
        made.run(1, 1)
    assert log.read_text() == "begun\nended\n"


def test_a_fault_that_does_not_begin_says_why(
    faulting: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(faulting("campaign"), "REFUSED_SECONDS", 0.5)
    made = campaign(faulting, begin="echo no way to host1 >&2; exit 7")
    with pytest.raises(SystemExit) as ended:
        made.run(1, 1)
    why = "kill a part (part1) has not begun: echo no way to host1 >&2; exit 7: exit code 7: no way to host1"
    assert capsys.readouterr().err.splitlines() == [why]
    assert str(ended.value) == f"no fault begins any more; the last one: {why}"
    assert made.total == 0 and made.refused["kill a part"] > 1


def test_a_fault_that_does_not_end_is_a_problem(
    faulting: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    made = campaign(faulting, begin="true", end="false", seconds=(0.0, 0.0))
    made.run(1, 1)
    why = "kill a part (part1) has not ended: false: exit code 1"
    assert made.problems == [why]
    assert why in capsys.readouterr().err


def test_a_part_that_is_not_ready_is_named_before_the_first_fault(
    faulting: Any,
) -> None:
    made = campaign(faulting, begin="true", ready="echo refused >&2; exit 2")
    with pytest.raises(SystemExit) as ended:
        made.require_ready()
    assert "part1 is not ready before the first fault" in str(ended.value)
    assert "exit code 2: refused" in str(ended.value)


def test_a_part_that_keeps_stderr_open_holds_no_command(faulting: Any) -> None:
    """A command that starts a process in the background ends at once, as in the user's shell."""
    begun = datetime.now(UTC)
    assert faulting("description").failure("sleep 30 & echo $! >/dev/null") == ""
    assert datetime.now(UTC) - begun < timedelta(seconds=20)


class Kept:
    """What the database has in the end: a row of an earlier campaign and a row of this one, and a timer of each."""

    def __init__(self, verdict: Any) -> None:
        at = BEGIN.replace(tzinfo=None)
        effects = [
            Record(task_id="a", template="tasks.FaultWrites", row_id=7, at=at),
            Record(task_id="b", template="tasks.FaultWrites", row_id=8, at=at),
            Record(task_id="c", template="tasks.FaultTimer", row_id=None, at=None),
            Record(task_id="d", template="tasks.FaultTimer", row_id=None, at=None),
        ]
        for effect in effects:
            effect.due = effect.began = at
        self._found = {
            verdict.EFFECTS: effects,
            verdict.LEDGER: [],
            verdict.DONE: [(7, 1), (8, 1)],
        }

    def execute(self, statement: Any) -> Any:
        return self._found[statement]


class Record(SimpleNamespace):
    """A row of an answer."""


@pytest.mark.parametrize(
    ("row", "tasks", "found"),
    [
        (7, {"c"}, {}),
        (7, set(), {"Ghost": 1}),  # nobody made timer c
        (0, {"c"}, {"Stale": 1}),  # nobody gave row 7 a date
    ],
)
def test_records_of_an_earlier_campaign_are_no_differences(
    faulting: Any, row: int, tasks: set[str], found: dict[str, int]
) -> None:
    """A second campaign has rows and tasks of its own in the same database."""
    verdict, journal = faulting("verdict"), faulting("journal")
    at = BEGIN.replace(tzinfo=None)
    noted = journal.Journal(earlier_row=row, earlier_tasks=frozenset(tasks))
    noted.rows[8] = journal.Row(8, "tasks.FaultWrites", [journal.Date(at)])
    noted.timers.append(journal.Timer(BEGIN, task="d"))
    case = verdict._Case(Kept(verdict), noted, at + timedelta(minutes=1))
    case.rows()
    case.timers()
    assert case.verdict.counts == found, case.verdict.found
