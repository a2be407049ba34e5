"""JSON files of an app: read whole, and told apart from what other readers would refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jittask_prefect.errors import ConfigError, Problem


def folders(path: Path, name: str) -> list[Path]:
    """The folders in a folder, sorted; none without the folder.

    Args:
        path: The folder.
        name: Its name in messages, relative to the app folder.

    Raises:
        ConfigError: The folder cannot be read.
    """
    try:
        return sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else []
    except OSError as error:
        raise ConfigError(
            Problem(name, "", error.strerror or str(error), "a folder that can be read")
        ) from None


def is_file(path: Path) -> bool:
    """Whether there is a file. A path that cannot be examined counts as a file: reading it tells why."""
    try:
        return path.is_file()
    except OSError:
        return True


def read_json(path: Path, name: str) -> Any:
    """The JSON of a file.

    Args:
        path: The file.
        name: Its name in messages, relative to the app folder.

    Raises:
        ConfigError: The file is missing, is not UTF-8, is not JSON, or names a key twice.
    """
    key, allowed = "", "valid JSON"
    try:
        return parse_json(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        found, allowed = "no such file", "a JSON file"
    except json.JSONDecodeError as error:
        found = f"line {error.lineno}, column {error.colno}: {error.msg}"
    except UnicodeDecodeError as error:
        found, allowed = f"byte {error.start} is not UTF-8", "UTF-8 text"
    except RecursionError:
        found = "JSON nested too deeply"
    except _TwiceError as error:
        key, found, allowed = str(error), "the key twice", "each key once"
    except OSError as error:
        found, allowed = error.strerror or str(error), "a file that can be read"
    except ValueError as error:  # NaN, or a number of thousands of digits
        found = str(error)

    raise ConfigError(Problem(name, key, found, allowed))


def parse_json(text: str) -> Any:
    """JSON without values that other readers refuse or read differently.

    Raises:
        ValueError: The text is no JSON, has NaN or infinity in it, or names a key twice.
        RecursionError: The text is nested too deeply.
    """
    return json.loads(text, object_pairs_hook=_once, parse_constant=_no_such_number)


class _TwiceError(ValueError):
    pass


def _no_such_number(text: str) -> Any:
    raise ValueError(f"{text}, which is no JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise _TwiceError(key)
        result[key] = value

    return result
