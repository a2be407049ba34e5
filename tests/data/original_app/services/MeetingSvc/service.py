from commons.rates import MINUTES
from datatypes.Meta import datatypes
from globals.GlobalVar import GlobalVar, currentTime
from jit.commons.utils.logger import log
from models.Meeting import Meeting
from services.NormalType import NormalService

from .texts import reminder


class MeetingSvc(NormalService):
    def notify(self, rowData):
        text = reminder(rowData.title.value, MINUTES)
        if rowData.state.isEqual("planned") and rowData.startTime.gte(currentTime):
            rowData.state.value = "told"
            rowData.save()

        log.warning(text)
        return text

    def sync(self):
        found = Meeting.query(Q("state", "=", "planned") | Q(count__gt=1), [["count", -1]], ["id", "title"], 1, 10, 2)
        for each in found.rowDatas:
            each.count.value = each.count.value + 10
            each.save()

        return [found.totalCount, [each.label() for each in found["rowDatas"]]]

    def total(self):
        sums = datatypes.JitDict.new({}, {"rows": 0})
        for number in datatypes.JitList.new({}, [1, 2, 3]):
            sums.rows.value = sums.rows.value + number

        return datatypes.Money.new({}, sums.rows.value)

    def onModelUpdate(self, rowObj):
        taskSvc = app.getElement("services.TaskSvc")
        return taskSvc.saveDateFieldTask(rowObj)

    def when(self):
        return str(GlobalVar.currentTime.value)
