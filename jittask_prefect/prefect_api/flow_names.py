"""Whose a flow run is: the server knows the name of its flow, which begins with the app's name."""

from __future__ import annotations

from jittask_prefect.errors import ArgumentError
from jittask_prefect.prefect_api.api import Api

_names: dict[str, str | None] = {}
"""The names of flows by their ids; a flow keeps its name."""


def refuse_foreign(api: Api, flow_id: str, own: str) -> None:
    """Refuse a flow run that is none of this process's flow: a deployment may name another app's file.

    The server is asked once for each flow in a process.

    Args:
        api: Prefect.
        flow_id: The id of the run's flow.
        own: The name of this process's flow.

    Raises:
        ArgumentError: The run is one of another flow.
        PrefectApiError: The server cannot be reached.
    """
    if flow_id not in _names:
        _names[flow_id] = api.flow_name(flow_id)
    found = _names[flow_id]
    if found not in (None, own):
        raise ArgumentError(
            f"a run of the flow {found}, in a process that has {own}; `jittask deploy` of the run's app puts its "
            "deployment right"
        )
