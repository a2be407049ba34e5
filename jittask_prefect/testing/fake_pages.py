"""Variables, tables and pages of the Prefect in memory."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from jittask_prefect.testing.fake_deployments import FakeCalls


class FakePages(FakeCalls):
    """Variables, tables and pages."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self.pages: dict[str, str] = {}
        self.variables: dict[str, Any] = {}
        self.summaries: dict[str, str] = {}

    def variable(self, name: str) -> Any:
        self._called("variable")
        return self.variables.get(name)

    def set_variable(self, name: str, value: Any) -> None:
        self._called("set_variable")
        self.variables[name] = value

    def put_table(
        self, run_id: str, key: str, rows: Sequence[Mapping[str, Any]], description: str
    ) -> None:
        self._called("put_table")
        self.tables[run_id] = [*self.tables.get(run_id, []), *map(dict, rows)]

    def table(self, run_id: str) -> list[dict[str, Any]]:
        self._called("table")
        return self.tables.get(run_id, [])

    def put_markdown(
        self,
        key: str,
        text: str,
        description: str,
        known: str | None = None,
        run_id: str | None = None,
    ) -> str:
        self._called("put_markdown")
        self.pages[key], self.summaries[key] = text, description
        return known or str(uuid.uuid5(uuid.NAMESPACE_OID, key))

    def drop_artifact(self, artifact_id: str) -> None:
        self._called("drop_artifact")
        self.pages = {
            k: t
            for k, t in self.pages.items()
            if str(uuid.uuid5(uuid.NAMESPACE_OID, k)) != artifact_id
        }
