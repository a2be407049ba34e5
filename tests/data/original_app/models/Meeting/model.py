from datetime import datetime

from jit.commons.utils.logger import log
from models.NormalType import NormalModel
from pydantic import NaiveDatetime
from sqlmodel import Field, SQLModel


class Meeting(NormalModel, SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    title: str = ""
    state: str = "planned"
    startTime: NaiveDatetime | None = None
    endTime: datetime | None = None
    count: int = 0

    def label(self):
        return f"{self.title.value} ({self.count.value})"

    def afterSave(self, triggerEvent=1):
        taskSvc = app.getElement("services.TaskSvc")
        log.info("saved %s", self.title.value)
        taskSvc.saveDateFieldTask({"postData": self})

    def afterDelete(self, triggerEvent=1):
        app.getElement("services.TaskSvc").deleteDateFieldTask({"prevData": self})
