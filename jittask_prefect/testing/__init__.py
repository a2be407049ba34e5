"""For tests of your own tasks: an app in a temporary folder, and a Prefect in memory.

app = build_app(tmp_path, {"tasks/Daily": {"e.json": {...}, "inner.py": "def customFunc(): return 1"}})
prefect = FakePrefect()
deploy(app, prefect)        # from here on the app's Prefect, also of app.getElement("services.TaskSvc")
with at(now): ...           # save rows here: the hooks ask the clock
prefect.sync(app, now)      # rows → flow runs, as the sync does every minute
prefect.run_due(app, now)   # due runs are executed, here and now, as by a worker
"""

from jittask_prefect.testing.app_folder import Element, at, build_app
from jittask_prefect.testing.fake_prefect import FakePrefect, deploy

__all__ = ["Element", "FakePrefect", "at", "build_app", "deploy"]
