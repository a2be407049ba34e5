def customFunc(rowData) -> dict[str, str]:
    text = f"{rowData.customer}, your appointment “{rowData.subject}” begins at {rowData.startsAt:%H:%M}."
    app.getElement("services.NoticeSvc").sendSms(rowData.phone, text)
    rowData.remindedAt = app.getElement("services.ClockSvc").now()
    return {"reminded": rowData.phone}
