"""Which elements an app folder holds: a folder with an e.json, or a service that is one file."""

from __future__ import annotations

import ast
import os
from functools import lru_cache
from pathlib import Path

from jittask_prefect.elements.config_texts import NAME
from jittask_prefect.elements.json_files import folders, is_file
from jittask_prefect.elements.project import Place


class ElementFolders:
    """The elements of an app's folders, by name.

    Args:
        place: The app's place.
    """

    def __init__(self, place: Place) -> None:
        self.folder = place.elements
        self._file = place.path / place.file

    def names(self, folder: str) -> list[str]:
        """The full names of the elements in a folder (`tasks`, `models`, `services`), sorted."""
        place = self.folder / folder
        found = {p.name for p in folders(place, folder) if is_file(p / "e.json")}
        if folder == "services":
            found |= _single_files(place)

        return sorted(f"{folder}.{name}" for name in found if NAME.fullmatch(name))

    def is_element(self, name: str) -> bool:
        """Whether the app has a folder, or a file, for the element of that full name."""
        place = self.folder / name.replace(".", "/")
        return is_file(place / "e.json") or self.is_single_file(name)

    def is_single_file(self, name: str) -> bool:
        """Whether an element is a service that is one file, `services/NoticeSvc.py`, without a folder."""
        folder, _, short = name.partition(".")
        place = self.folder / folder
        if folder != "services" or is_file(place / short / "e.json"):
            return False
        return short in _single_files(place)

    def gone(self, name: str) -> bool:
        """Whether an element is known to be gone: its folder is missing, or has neither e.json nor code.

        A folder that cannot be read is not known to be gone: its element is broken, and its tasks wait.
        """
        if not NAME.fullmatch(name.partition(".")[2]):
            return True

        try:
            os.stat(self._file)
            with os.scandir(self.folder / name.replace(".", "/")) as found:
                return not any(
                    file.name == "e.json" or file.name.endswith(".py") for file in found
                )
        except FileNotFoundError:
            return self._file.exists()
        except OSError:
            return False


def _single_files(folder: Path) -> set[str]:
    """The names of the services in a folder that are one file.

    A file is a service where it defines a class of its own name, or only one class. Other files are helpers.
    """
    try:
        files = [p for p in folder.glob("*.py") if p.stem != "__init__"]
        return {p.stem for p in files if _is_service(p, p.stat().st_mtime_ns)}
    except OSError:
        return set()


@lru_cache(maxsize=1024)
def _is_service(file: Path, _changed: int) -> bool:
    try:
        body = ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError, RecursionError):
        return True  # the error is told where the service is used

    classes = [node.name for node in body if isinstance(node, ast.ClassDef)]
    return file.stem in classes or len(classes) == 1
