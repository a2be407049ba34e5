from jittask_prefect import NormalService


class SyncSvc(NormalService):
    def syncUserData(self, table: str) -> dict[str, str]:
        log.info("users from %s", table)
        return {"users": table}

    def syncOrderData(self, table: str) -> dict[str, str]:
        log.info("orders from %s", table)
        return {"orders": table}
