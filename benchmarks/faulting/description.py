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
import tempfile
import tomllib
from dataclasses import dataclass
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
        sync: Seconds between two syncs; the app's deployment has one each minute.
    """

    api: str
    database: str
    faults: tuple[Fault, ...]
    sync: float = 60.0


class DescriptionError(Exception):
    """A description that cannot be read."""


SYSTEM: dict[str, tuple[type, ...]] = {
    "api": (str,),
    "database": (str,),
    "faults": (list,),
    "sync": (int, float),
}
FAULT: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "part": (str,),
    "begin": (str,),
    "end": (str,),
    "ready": (str,),
    "seconds": (list,),
    "others": (bool,),
    "weight": (int, float),
}
WORDS = {str: "a text", bool: "true or false", int: "a number", list: "a list"}


def read(file: Path) -> System:
    """Read a description.

    Raises:
        DescriptionError: The file cannot be read, a key is missing or unknown, or a value is of another kind.
    """
    try:
        found = tomllib.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise DescriptionError(f"{file}: {error}") from error
    _check(str(file), found, SYSTEM, {"api", "database", "faults"})
    if found.get("sync", 1) <= 0:
        raise DescriptionError(f"{file}: sync = {found['sync']}; allowed: above 0")
    faults = [_fault(f"{file}: fault {n}", f) for n, f in enumerate(found["faults"], 1)]
    return System(**{**found, "faults": tuple(faults)})


def _check(
    place: str, found: Any, kinds: dict[str, tuple[type, ...]], needed: set[str]
) -> None:
    if not isinstance(found, dict):
        raise DescriptionError(f"{place}: {found!r}; allowed: a table")
    if found.keys() - kinds.keys() or needed - found.keys():
        keys, allowed = ", ".join(sorted(found)) or "none", ", ".join(sorted(kinds))
        needs = ", ".join(sorted(needed))
        raise DescriptionError(
            f"{place}: the keys are {keys}; allowed: {allowed}; needed: {needs}"
        )
    for key, value in found.items():
        if type(value) not in kinds[key] or value in ("", []):
            word = WORDS[kinds[key][0]]
            raise DescriptionError(f"{place}: {key} = {value!r}; allowed: {word}")


def _fault(place: str, about: Any) -> Fault:
    _check(place, about, FAULT, {"name", "part", "begin"})
    seconds = tuple(about.get("seconds", (0.0, 5.0)))
    numbers = all(type(second) in (int, float) for second in seconds)
    if not numbers or len(seconds) != 2 or not 0 <= seconds[0] <= seconds[1]:
        raise DescriptionError(
            f"{place}: seconds = {list(seconds)}; allowed: [shortest, longest]"
        )
    if about.get("weight", 1) <= 0:
        raise DescriptionError(f"{place}: weight = {about['weight']}; allowed: above 0")
    return Fault(**{**about, "seconds": seconds})


def does(command: str) -> bool:
    """Run a shell command to its end; whether the command succeeded."""
    return not failure(command)


def failure(command: str) -> str:
    """Run a shell command to its end.

    Args:
        command: The command; nothing is done where the text is empty.

    Returns:
        The exit code and the last line that a failed command wrote to stderr; empty after success.
    """
    if not command:
        return ""
    # A part that the command starts may keep stderr open: a file does not wait for its end.
    with tempfile.TemporaryFile() as said:
        try:
            done = subprocess.run(
                ["sh", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                timeout=COMMAND_SECONDS,
            )
        except subprocess.TimeoutExpired:
            return f"no end within {COMMAND_SECONDS} s"
        if done.returncode == 0:
            return ""
        said.seek(0)
        lines = said.read().decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"exit code {done.returncode}: {last}"[:300].removesuffix(": ")
