def customFunc(rowData) -> dict[str, str]:
    text = f"Your contract “{rowData.subject}” ends on {rowData.endDate}."
    app.getElement("services.NoticeSvc").queueEmail(rowData.email, text)
    rowData.status = "expiring"
    rowData.remindedAt = app.getElement("services.ClockSvc").now()
    return {"reminded": rowData.email}
