"""An application that exists: from `jittask init --here` to the first reminder that a worker executes, and a redeploy.

The clinic is FastAPI, plain SQLAlchemy and Alembic, with a `prefect.yaml`, `tasks/` and `models/` of its own.
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from patience import PATIENCE
from place import SCRIPTS, until, worker

from jittask_prefect.server.service import ServiceInfo

CLINIC = Path(__file__).parents[1] / "data" / "clinic"
OWN = {
    "prefect.yaml": "name: the team's own\n",
    "tasks/README.md": "the team's own\n",
    "models/__init__.py": "raise RuntimeError('the team never imports this')\n",
}
TASKS = """from clinic.models import Appointment
from jittask_prefect import Before, date_field_task


@date_field_task(Appointment.starts_at, Before(days=1), where=Appointment.status == "booked")
def remind_patient(appointment):
    appointment.reminded = True
"""
WITH_LETTERS = f"""from clinic.letters import text
{TASKS}    return text(appointment)
"""
LETTERS = 'def text(appointment):\n    return f"Dear {appointment.patient.name}"\n'
# The web process: for each line a request, whose appointment has its reminder due in `seconds`. The process goes on, so
# that the reminder is in Prefect soon after the request; else the next sync would hand it over.
WEB = """
import sys
from datetime import datetime, timedelta, timezone
from fastapi.testclient import TestClient
from clinic.main import web
client = TestClient(web)
for line in sys.stdin:
    number, seconds = line.split()
    room = client.post("/practitioners", json={"name": "Dr. Who", "room": number}).json()["id"]
    ada = client.post("/patients", json={"name": "Ada", "email": f"{number}@x.org", "born": "1990-01-01"}).json()["id"]
    at = datetime.now(timezone.utc).replace(tzinfo=None) + timedelta(days=1, seconds=int(seconds))
    new = {"patient_id": ada, "practitioner_id": room, "starts_at": at.isoformat()}
    answer = client.post("/appointments", json=new)
    assert answer.status_code == 201, answer.text
    print(answer.json()["id"], flush=True)
"""


@dataclass
class Clinic:
    """A copy of the application, and the commands that were given in it."""

    folder: Path
    env: dict[str, str]
    said: list[str] = field(default_factory=list)

    def run(self, *command: str) -> str:
        """A command in the project's folder; its output."""
        begun = time.monotonic()
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=120 * PATIENCE,
        )
        shown = " ".join(Path(part).name for part in command)[:60]
        self.said.append(f"{time.monotonic() - begun:5.1f} s  {shown}")
        assert done.returncode == 0, f"{shown}\n{done.stdout}{done.stderr}"
        return done.stdout

    def jittask(self, *arguments: str) -> str:
        return self.run(str(SCRIPTS / "jittask"), *arguments)

    def replace(self, file: str, old: str, new: str) -> None:
        text = (self.folder / file).read_text()
        assert old in text
        (self.folder / file).write_text(text.replace(old, new))

    @contextmanager
    def web(self) -> Iterator[Callable[[str, int], int]]:
        """The web application meanwhile: books an appointment, and gives its key."""
        pipe = subprocess.PIPE
        command = [sys.executable, "-P", "-c", WEB]
        with subprocess.Popen(
            command, cwd=self.folder, env=self.env, stdin=pipe, stdout=pipe, text=True
        ) as process:
            asked, said = process.stdin, process.stdout
            assert asked and said

            def book(number: str, seconds: int) -> int:
                print(number, seconds, file=asked, flush=True)
                return int(said.readline())

            yield book
            asked.close()

    def reminded(self, key: int) -> bool:
        query = "SELECT reminded FROM appointments WHERE id = ?"
        return bool(self.rows(query, key)[0][0])

    def rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        with sqlite3.connect(self.folder / "clinic.db", timeout=30) as connection:
            return connection.execute(query, values).fetchall()

    def changed_lines(self) -> int:
        """The lines that are new or other than before, without blank lines, comments and docstrings."""
        count = 0
        for file in (
            "pyproject.toml",
            "clinic/tasks.py",
            "clinic/main.py",
            "migrations/env.py",
        ):
            before = CLINIC / file
            old = before.read_text().splitlines() if before.exists() else []
            new = (self.folder / file).read_text().splitlines()
            added = [d[2:].strip() for d in difflib.ndiff(old, new) if d[:2] == "+ "]
            count += sum(
                1 for line in added if line and not line.startswith(("#", '"""'))
            )
        return count


@pytest.fixture(scope="module")
def clinic(
    tmp_path_factory: pytest.TempPathFactory, prefect_server: ServiceInfo
) -> Iterator[Clinic]:
    home = tmp_path_factory.mktemp("clinic")
    unwanted = shutil.ignore_patterns("__pycache__", "*.db", ".jittask")
    folder = shutil.copytree(CLINIC, home / "project", ignore=unwanted)
    for name, text in OWN.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    # Installed as `pip install -e .` does, for the web process and Alembic.
    env = {**os.environ, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
    env |= {"TZ": "UTC", "PWD": str(folder)}  # Prefect writes PWD into the file
    env.pop("JITTASK_APP", None)
    yield Clinic(folder, env)


def test_from_nothing_to_the_first_reminder(clinic: Clinic) -> None:
    begun = time.monotonic()
    clinic.run(sys.executable, "-m", "alembic", "upgrade", "head")

    said = clinic.jittask("init", "--here")
    assert 'engine = "clinic.database:engine"' in said
    assert "Next: jittask check" in said
    (clinic.folder / "clinic/tasks.py").write_text(TASKS)
    clinic.replace(
        "clinic/main.py",
        "from clinic.models import Appointment, Invoice, Patient, Practitioner\n",
        "from clinic.models import Appointment, Invoice, Patient, Practitioner\n"
        "from jittask_prefect import app as tasks\n",
    )
    clinic.replace(
        "clinic/main.py",
        'web = FastAPI(title="Clinic")\n',
        'web = FastAPI(title="Clinic")\ntasks.load()\n',
    )
    clinic.replace(
        "migrations/env.py",
        "        render_as_batch=True,\n",
        "        render_as_batch=True,\n"
        '        include_name=lambda name, *_: not (name or "").startswith("jittask_"),\n',
    )
    lines = clinic.changed_lines()
    assert lines <= 12

    clinic.jittask("check")
    clinic.jittask("db", "upgrade")
    clinic.jittask("deploy")
    with _worker(clinic), clinic.web() as book:
        key = book("1", 5)
        until(lambda: clinic.reminded(key), 90, what="the first reminder")
        minutes = (time.monotonic() - begun) / 60
        assert _record(clinic, key)["result"] is None

        # Changed code reaches the warm worker without a restart: of a task, of a helper.
        (clinic.folder / "clinic/letters.py").write_text(LETTERS)
        (clinic.folder / "clinic/tasks.py").write_text(WITH_LETTERS)
        assert _record(clinic, book("2", 3))["result"] == "Dear Ada"
        clinic.replace("clinic/letters.py", "Dear", "Hello")
        assert _record(clinic, book("3", 3))["result"] == "Hello Ada"

    clinic.run(sys.executable, "-m", "alembic", "check")
    for name, text in OWN.items():
        assert (clinic.folder / name).read_text() == text
    assert not (clinic.folder / "jittask_flows.py").exists()
    print("\n".join(clinic.said))
    print(f"{minutes:.1f} minutes, {lines} changed lines")


def _worker(clinic: Clinic):  # type: ignore[no-untyped-def]
    """A worker that knows nothing of the project: neither its folder nor `PYTHONPATH` or `JITTASK_APP`."""
    return worker(clinic.folder.parent / ".jittask", cwd=clinic.folder.parent)


def _record(clinic: Clinic, key: int) -> dict[str, object]:
    """The record of an appointment's reminder once it has completed; the row is reminded in the same transaction."""
    until(lambda: clinic.reminded(key), 90, what="the reminder is completed")
    said = clinic.jittask("records", "tasks.RemindPatient", "--json")
    of_row = [r for r in json.loads(said) if r["row"] == str(key)]
    [done] = [r for r in of_row if r["status"] == "completed"]
    return dict(done)


def test_prefect_deploy_takes_the_generated_file(clinic: Clinic) -> None:
    """After `jittask deploy`, `prefect deploy` changes nothing; the team's own prefect.yaml is another file."""
    clinic.jittask("compile")
    said = clinic.run(
        str(SCRIPTS / "prefect"),
        "--no-prompt",
        "deploy",
        "--name",
        "tasks.RemindPatient",
        "--prefect-file",
        ".jittask/prefect.yaml",
    )
    assert "tasks.RemindPatient" in said.replace("\n", "")
    assert "deployed:" not in clinic.jittask("deploy")
