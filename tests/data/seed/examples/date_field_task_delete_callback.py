# Usually used in model events
def onModelDelete(rowObj):
    taskSvc = app.getElement("services.TaskSvc")

    # Clean up related tasks
    result = taskSvc.deleteDateFieldTask(rowObj)

    return result
