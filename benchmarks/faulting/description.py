"""The description of a system: its addresses, and the commands that harm it and mend it; a TOML file.

api = "https://tasks.example.com/api"
database = "postgresql+psycopg://shop:secret@db.internal/faults"

[[faults]]
name = "kill an API server"
part = "api1"
begin = "ssh api1 sudo systemctl kill --signal=KILL prefect-api@4201"
end = "ssh api1 sudo systemctl start prefect-api@4201"
ready = "curl -fsS http://api1:4201/api/health"
seconds = [0, 5]
others = true
"""

from __future__ import annotations

import subprocess
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

COMMAND_SECONDS = 180


@dataclass(frozen=True)
class Fault:
    """A way to harm a part.

    Attributes:
        name: The kind; faults of several parts may share a name.
        part: What is harmed; two faults at a time have different parts.
        begin: The shell command that begins the fault.
        end: The command that ends the fault; nothing where absent.
        ready: The command that succeeds once the part is as before; absent, the part is so at once.
        seconds: The shortest and the longest time between begin and end.
        others: Other processes take the part's place: recovery counts from the begin.
        weight: How often the fault is chosen, compared with others.
    """

    name: str
    part: str
    begin: str
    end: str = ""
    ready: str = ""
    seconds: tuple[float, float] = (0.0, 5.0)
    others: bool = False
    weight: float = 1.0


@dataclass(frozen=True)
class System:
    """A system that the campaign harms.

    Attributes:
        api: The balancer's address.
        database: The URL of the app's database, past all that the campaign makes silent.
        faults: What may be done to the system.
    """

    api: str
    database: str
    faults: tuple[Fault, ...]


class DescriptionError(Exception):
    """A description that cannot be read."""


def read(file: Path) -> System:
    """Read a description.

    Raises:
        DescriptionError: A key is missing, or unknown.
    """
    found = tomllib.loads(file.read_text())
    if missing := {"api", "database", "faults"} - found.keys():
        raise DescriptionError(f"{file}: no {', '.join(sorted(missing))}")
    faults = tuple(_fault(file, about) for about in found["faults"])
    return System(found["api"], found["database"], faults)


def _fault(file: Path, about: dict[str, Any]) -> Fault:
    allowed = {field.name for field in fields(Fault)}
    needed = {"name", "part", "begin"}
    if about.keys() - allowed or needed - about.keys():
        found, keys = ", ".join(sorted(about)), ", ".join(sorted(allowed))
        needs = ", ".join(sorted(needed))
        raise DescriptionError(
            f"{file}: a fault with the keys {found}; allowed: {keys}; needed: {needs}"
        )
    seconds = tuple(about.get("seconds", (0.0, 5.0)))
    return Fault(**{**about, "seconds": seconds})


def does(command: str) -> bool:
    """Run a shell command to its end; whether the command succeeded."""
    if not command:
        return True
    try:
        done = subprocess.run(
            ["sh", "-c", command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=COMMAND_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
