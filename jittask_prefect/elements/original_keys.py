"""Keys of JitTask's `e.json` that have no meaning here: they load, and `check` notes each with the next step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_STAYS = "without meaning here; the key may stay"
_FIELDS = "the columns of the class in model.py decide; the key may stay"
OF_ALL = {
    "backendBundleEntry": _STAYS,
    "frontBundleEntry": _STAYS,
    "icon": _STAYS,
    "sort": _STAYS,
    "variables": "without meaning here; take argDict of a task, or environment variables",
    "desc": "without meaning here; take description of a task, or the title",
    "createTime": _STAYS,
    "modifyTime": _STAYS,
}
OF_MODELS = {
    "dataTitle": "without meaning here; a row is named by its key",
    "dbTable": "the table's name stands in the class: __tablename__",
    "fieldList": _FIELDS,
    "fields": _FIELDS,
    "functionList": "the methods of the class decide; the key may stay",
    "eventDescs": "afterSave and afterDelete of the class are called; the key may stay",
    "indexList": _FIELDS,
    "uniqueList": _FIELDS,
    "unionIndexList": _FIELDS,
    "unionUniqueList": _FIELDS,
}
OF_SERVICES = {
    "eventDescs": "events are not carried over; call the function where the event happens",
}
OF_TASKS = {
    "functionList": "the functions of inner.py decide; the key may stay",
    "eventDescs": "events are not carried over; a Type's afterReturn is called after each execution",
}
BY_FOLDER = {"models": OF_MODELS, "services": OF_SERVICES, "tasks": OF_TASKS}


def advice(folder: str) -> Mapping[str, str]:
    """For each key without meaning in the e.json of a folder's elements: the next step."""
    return OF_ALL | BY_FOLDER.get(folder, {})


def without(raw: Any, folder: str) -> Any:
    """An e.json without the keys that have no meaning."""
    if not isinstance(raw, Mapping):
        return raw

    unused = advice(folder)
    return {key: value for key, value in raw.items() if key not in unused}
