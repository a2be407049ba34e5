def customFunc(rowData) -> dict[str, int]:
    rowData.reminders += 1
    rowData.remindedAt = app.getElement("services.ClockSvc").now()
    text = f"Reminder {rowData.reminders}: your bill of {rowData.amount / 100:.2f} was due on {rowData.dueDate}."
    app.getElement("services.NoticeSvc").queueEmail(rowData.email, text)
    return {"reminders": rowData.reminders}
