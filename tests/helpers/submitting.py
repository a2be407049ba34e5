"""A form submitted as the dialogs' flows submit one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from jittask_prefect.dialogs import submit as dialogs
from jittask_prefect.elements.app import App
from jittask_prefect.running.form_actions import form_actions
from jittask_prefect.testing import FakePrefect


def submit(
    app: App, api: FakePrefect, dialog: str, form: Mapping[str, Any], now: datetime
) -> dialogs.Result:
    return dialogs.submit(app, api, form_actions(app, api), dialog, form, now)
