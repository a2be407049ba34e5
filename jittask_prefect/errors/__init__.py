"""Every error that the package raises on purpose.

JittaskError
├── ConfigError        an e.json, app.json or timer with mistakes; lists every problem
│   ├── FilterError    a Q expression with mistakes
│   ├── OutdatedForm   an edit form made from an earlier state of the task
│   └── SignatureError a function whose parameters do not fit the task
├── UnknownElement     no element of that name in the app
├── UnknownTask        no task of that id
├── InvalidTime        an unreadable time
├── ArgumentError      an argument that the call does not take
├── LedgerError        the ledger's tables are missing or of another version
│   └── OtherDatabase  the Prefect server knows the app by another database
└── PrefectApiError    the Prefect server cannot be reached, or refuses

The docstring of a class is its message where none is given.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from jittask_prefect.errors.printable import escape_controls


class JittaskError(Exception):
    """jittask-prefect cannot do this."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(escape_controls(message or (type(self).__doc__ or "").strip()))


@dataclass(frozen=True)
class Problem:
    """A mistake in a file: its place, the value found there, and the values allowed."""

    file: str
    key: str
    found: str
    allowed: str

    def __post_init__(self) -> None:
        for each in fields(self):  # quotes of files, which may hold any character
            object.__setattr__(
                self, each.name, escape_controls(getattr(self, each.name))
            )

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.file, self.key) if part)
        return f"{where}: found {self.found}; allowed: {self.allowed}"

    def within(self, file: str, key: str = "") -> Problem:
        """The same problem, seen from the file (and the key) around it."""
        path = self.key if not key else key if not self.key else f"{key}.{self.key}"
        return Problem(self.file or file, path, self.found, self.allowed)


class ConfigError(JittaskError):
    """The configuration cannot work."""

    def __init__(self, problems: Iterable[Problem] | Problem) -> None:
        self.problems: tuple[Problem, ...] = (
            (problems,) if isinstance(problems, Problem) else tuple(problems)
        )
        super().__init__("\n".join(map(str, self.problems)) or None)

    def within(self, file: str, key: str = "") -> ConfigError:
        """The same error, each problem seen from the file (and the key) around it."""
        return type(self)([p.within(file, key) for p in self.problems])


def invalid(key: str, found: str, allowed: str, *, file: str = "") -> ConfigError:
    """The error of a single mistake; see `Problem`."""
    return ConfigError(Problem(file, key, found, allowed))


class FilterError(ConfigError):
    """The Q expression cannot work."""


class SignatureError(ConfigError):
    """The function does not take the arguments of the task."""


class OutdatedForm(ConfigError):
    """The task has changed since the form was made.

    Attributes:
        page: The difference, and a link to a fresh form, in Markdown.
    """

    def __init__(self, problems: Iterable[Problem] | Problem, page: str = "") -> None:
        super().__init__(problems)
        self.page = page


class UnknownElement(JittaskError, LookupError):
    """There is no element of that name in the app."""


class UnknownTask(JittaskError, LookupError):
    """There is no task of that id."""


class InvalidTime(JittaskError, ValueError):
    """The time cannot be read."""


class ArgumentError(JittaskError, TypeError):
    """The call does not take these arguments."""


class LedgerError(JittaskError):
    """The ledger's tables are missing: run `jittask db upgrade`."""


class OtherDatabase(LedgerError):
    """The Prefect server knows the app of this name by another database."""


class PrefectApiError(JittaskError):
    """The Prefect server cannot be reached."""
