def customFunc(rowData) -> dict[str, str]:
    before, rowData.level = rowData.level, "basic"
    rowData.downgradedAt = app.getElement("services.ClockSvc").now()
    text = f"Your {before} membership has expired; renew it to keep its benefits."
    app.getElement("services.NoticeSvc").queueEmail(rowData.email, text)
    log.info("%s: %s → basic", rowData.customer, before)
    return {"from": before, "to": rowData.level}
