from typing import Any

from jittask_prefect import NormalService


class BackupSvc(NormalService):
    def backupDatabase(
        self, database: str, backup_path: str, compress: bool
    ) -> dict[str, Any]:
        """Say where the backup would be; the example's path is on no test machine."""
        log.info("backup of %s", database)
        return {"file": f"{backup_path}{database}.sql{'.gz' if compress else ''}"}
