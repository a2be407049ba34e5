"""Keys of JitTask's `e.json` that have no meaning here: they load, and `check` notes each with the next step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_STAYS = "no meaning here; may stay"
_FIELDS = "no meaning here, the columns of the class in model.py decide; may stay"
OF_ALL = {
    "backendBundleEntry": _STAYS,
    "frontBundleEntry": _STAYS,
    "icon": _STAYS,
    "sort": _STAYS,
    "variables": "no meaning here; take argDict of a task, or environment variables",
    "desc": "no meaning here; take description of a task, or the title",
    "createTime": _STAYS,
    "modifyTime": _STAYS,
}
OF_MODELS = {
    "dataTitle": "no meaning here; take rowLabel to name rows for people",
    "dbTable": "no meaning here; the table's name stands in the class, as __tablename__",
    "fieldList": _FIELDS,
    "fields": _FIELDS,
    "functionList": "no meaning here, the methods of the class decide; may stay",
    "eventDescs": "no meaning here, afterSave and afterDelete of the class are called; may stay",
    "indexList": _FIELDS,
    "uniqueList": _FIELDS,
    "unionIndexList": _FIELDS,
    "unionUniqueList": _FIELDS,
}
OF_SERVICES = {
    "eventDescs": "no meaning here; call the function where the event happens",
}
OF_TASKS = {
    "functionList": "no meaning here, the functions of inner.py decide; may stay",
    "eventDescs": "no meaning here; a Type's afterReturn is called after each execution",
}
BY_FOLDER = {"models": OF_MODELS, "services": OF_SERVICES, "tasks": OF_TASKS}


def advice(folder: str) -> Mapping[str, str]:
    """For each key without meaning in the e.json of a folder's elements: the next step."""
    return OF_ALL | BY_FOLDER.get(folder, {})


def names_service_function(raw: Any) -> bool:
    """Whether an e.json of a task says its function by `taskFunc` alone: `services.X.method`, without `funcType`."""
    if not isinstance(raw, Mapping) or "funcType" in raw or raw.get("func"):
        return False
    return str(raw.get("taskFunc") or "").startswith("services.")


def without(raw: Any, folder: str) -> Any:
    """An e.json without the keys that have no meaning."""
    if not isinstance(raw, Mapping):
        return raw

    unused = advice(folder)
    return {key: value for key, value in raw.items() if key not in unused}
