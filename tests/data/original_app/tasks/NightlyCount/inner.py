from datatypes.Meta import datatypes
from jit.commons.utils.logger import log
from services.Meta import BaseService
from services.NormalType import NormalService
from tasks.DateFieldType import DateFieldType
from tasks.Meta import BaseTask, Timer
from tasks.NormalType import NormalType


def customFunc():
    meetings = app.models.Meeting.query(filter="Q(state='planned')")
    log.info("%s meetings", len(meetings["rowDatas"]))
    timer = Timer({"startTime": "2024-01-01 09:00:00", "repeat": {"repeatType": "day", "period": 1}})
    first = app.getElement("models.Meeting").get(Q("title", "startswith", "P"))
    return {
        "count": meetings.totalCount,
        "chain": app.services.NoticeSvc.send("hello"),
        "first": first.title.value,
        "none": app.models.Meeting.get("Q(count=99)"),
        "next": timer.nextTime() is not None,
        "types": [issubclass(each, BaseTask) for each in (NormalType, DateFieldType)],
        "services": issubclass(NormalService, BaseService),
        "task": app.tasks.NightlyCount.title,
        "text": str(datatypes.Stext.new({}, "x").value),
    }
