def customFunc(rowData) -> dict[str, int]:
    rowData.reminders += 1
    return {"reminders": rowData.reminders}
