def customFunc(rowData) -> dict[str, int]:
    log.info("order %d for %s is not shipped", rowData.OrderID, rowData.CustomerID)
    return {"remind": rowData.EmployeeID}
