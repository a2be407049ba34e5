taskSvc = app.getElement("services.TaskSvc")

# Batch create a group of related tasks
task_configs = [
    {
        "fullName": "tasks.DataSync",
        "startTime": "2024-12-01 01:00:00",
        "funcName": "services.SyncSvc.syncUserData",
        "taskType": "tasks.NormalType",
        "argDict": {"table": "users"}
    },
    {
        "fullName": "tasks.DataSync",
        "startTime": "2024-12-01 02:00:00",
        "funcName": "services.SyncSvc.syncOrderData",
        "taskType": "tasks.NormalType",
        "argDict": {"table": "orders"}
    }
]

# Batch create tasks
results = []
for config in task_configs:
    result = taskSvc.createTimerTask(**config)
    results.append(result)

print(f"Batch created {len(results)} tasks")
