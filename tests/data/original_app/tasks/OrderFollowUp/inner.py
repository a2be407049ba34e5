def main(app, taskInstance, rowData):
    svc = app.getElement("services.NoticeSvc")
    rowData.count.value = rowData.count.value + 1
    return svc.send(f"{taskInstance.title}: {rowData.title.value}", times=2)
