# Usually used in model events
def onModelUpdate(rowObj):
    taskSvc = app.getElement("services.TaskSvc")

    # Handle date field task
    result = taskSvc.saveDateFieldTask(rowObj)

    return result
