taskSvc = app.getElement("services.TaskSvc")

# Get all task templates
all_templates = taskSvc.getTaskTmplList("")

# Filter task templates by name
filtered_templates = taskSvc.getTaskTmplList("Data Backup")

# Process returned results
for template in all_templates:
    print(f"Template name: {template['title']}")
    print(f"Task type: {template['taskType']}")
    print(f"Repeat type: {template['repeatType']}")
    print(f"Full path: {template['fullName']}")
