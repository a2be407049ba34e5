from jittask_prefect import Hourly, scheduled_task


@scheduled_task(Hourly(start="2026-01-01 00:00:00"), timeout=600)
def hourly_data_sync():
    """Hourly data sync"""
    return {"added": 0, "updated": 0}  # the import that your application has
