def customFunc(rowData) -> dict[str, str]:
    rowData.status = "cancelled"
    rowData.stockHeld = False
    rowData.cancelledAt = app.getElement("services.ClockSvc").now()
    text = f"Your order of {rowData.item} was cancelled: it was to be paid by {rowData.payBy:%Y-%m-%d %H:%M}."
    app.getElement("services.NoticeSvc").queueEmail(rowData.email, text)
    return {"cancelled": rowData.item}
