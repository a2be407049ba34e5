"""A run is refused where the server says that its flow is another app's."""

from __future__ import annotations

from typing import ClassVar

import pytest

from jittask_prefect import ArgumentError
from jittask_prefect.prefect_api.flow_names import refuse_foreign
from jittask_prefect.testing import FakePrefect


class Named(FakePrefect):
    """Gives flows these names, by id."""

    names: ClassVar[dict[str, str]] = {
        "f1": "shop.tasks.NormalType",
        "f2": "crm.tasks.NormalType",
    }

    def flow_name(self, flow_id: str) -> str | None:
        super().flow_name(flow_id)
        return self.names.get(flow_id)


def test_a_run_of_another_app_s_flow_is_refused() -> None:
    api = Named()
    refuse_foreign(api, "f1", "shop.tasks.NormalType")
    with pytest.raises(ArgumentError, match=r"flow crm\.tasks\.NormalType, in a proc"):
        refuse_foreign(api, "f2", "shop.tasks.NormalType")


def test_a_flow_is_asked_for_once_and_a_flow_that_is_gone_says_nothing() -> None:
    api = Named()
    for _ in range(3):
        refuse_foreign(api, "gone", "shop.tasks.NormalType")
    assert api.calls == ["flow_name"]
