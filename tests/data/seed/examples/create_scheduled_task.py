from datetime import datetime, timedelta

taskSvc = app.getElement("services.TaskSvc")

# Create task to execute in 1 hour
future_time = datetime.now() + timedelta(hours=1)

result = taskSvc.createTimerTask(
    fullName="tasks.DataBackup",
    startTime=future_time.strftime("%Y-%m-%d %H:%M:%S"),
    funcName="services.BackupSvc.backupDatabase",
    taskType="tasks.NormalType",
    argDict={
        "database": "main_db",
        "backup_path": "/backup/",
        "compress": True
    }
)

print(f"Task creation result: {result}")
