taskSvc = app.getElement("services.TaskSvc")

# Force end specified task
result = taskSvc.forcedEnd("task_uuid_12345")

print(f"Task force end result: {result}")
