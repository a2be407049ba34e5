"""The base job templates of new work pools."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# A pool of our type has no variables: the server checks them for each run, at a higher cost than the run's own. An
# empty job configuration is refused.
BASE_JOB_TEMPLATE: Mapping[str, Any] = {
    "job_configuration": {"labels": {}},
    "variables": {"type": "object", "properties": {}},
}
WARM_POOL = "jittask"


def template_of_kind(kind: str) -> Mapping[str, Any]:
    """The template of a new pool. Only Prefect knows those of its own types, and is imported for them."""
    if kind == WARM_POOL:
        return BASE_JOB_TEMPLATE
    from prefect.workers.base import BaseWorker

    worker = BaseWorker.get_worker_class_from_type(kind)
    return worker.get_default_base_job_template() if worker else {}
