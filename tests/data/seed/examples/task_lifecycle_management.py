taskSvc = app.getElement("services.TaskSvc")

# 1. Get available templates
templates = taskSvc.getTaskTmplList("")

# 2. Create task based on template
if templates:
    template = templates[0]
    result = taskSvc.createTimerTask(
        fullName=template['fullName'],
        startTime="2024-12-01 09:00:00",
        funcName="services.BusinessSvc.processData",
        taskType=template['taskType'],
        argDict={"batch_size": 100}
    )

# 3. Force terminate task if needed
# taskSvc.forcedEnd("task_id")
