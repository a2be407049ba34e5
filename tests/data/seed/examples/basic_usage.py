# Get task service instance
taskSvc = app.getElement("services.TaskSvc")

# Get task template list
templates = taskSvc.getTaskTmplList("")

# Create scheduled task
result = taskSvc.createTimerTask(
    fullName="tasks.MyTask",
    startTime="2024-01-01 10:00:00",
    funcName="executeTask",
    taskType="tasks.NormalType",
    argDict={"param1": "value1"}
)
