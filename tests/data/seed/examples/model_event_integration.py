# Used in model lifecycle functions
def afterSave(self, triggerEvent=1):
    """Trigger task service after model save"""
    taskSvc = app.getElement("services.TaskSvc")

    # Construct row object
    rowObj = {
        'postData': self, # Updated data
        'prevData': self._original_data # Pre-update data (needs to be maintained manually)
    }

    # Trigger date field task processing
    taskSvc.saveDateFieldTask(rowObj)

def afterDelete(self, triggerEvent=1):
    """Clean up related tasks after model delete"""
    taskSvc = app.getElement("services.TaskSvc")

    rowObj = {
        'prevData': self # Deleted data
    }

    # Clean up related tasks
    taskSvc.deleteDateFieldTask(rowObj)
