"""The facade, `services.TaskSvc`."""
