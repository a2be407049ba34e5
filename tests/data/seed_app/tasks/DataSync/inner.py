def customFunc() -> dict[str, str]:
    sync = app.getElement("services.SyncSvc")
    return sync.syncUserData("users") | sync.syncOrderData("orders")
