def customFunc() -> dict[str, str]:
    return executeTask("default")


def executeTask(param1: str) -> dict[str, str]:
    log.info("param1 is %s", param1)
    return {"param1": param1}
