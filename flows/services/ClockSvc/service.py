from datetime import datetime
from zoneinfo import ZoneInfo

from jittask_prefect import NormalService


class ClockSvc(NormalService):
    def now(self) -> datetime:
        """The shop's wall clock, without a zone: what the models hold, wherever the worker runs."""
        return datetime.now(ZoneInfo(app.timezone)).replace(tzinfo=None, microsecond=0)
