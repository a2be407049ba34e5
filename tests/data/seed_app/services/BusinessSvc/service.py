from jittask_prefect import NormalService


class BusinessSvc(NormalService):
    def processData(self, batch_size: int) -> dict[str, int]:
        log.info("a batch of %d", batch_size)
        return {"batchSize": batch_size}
