from datetime import datetime

from jittask_prefect import Before, date_field_task
from shop.models import Contract
from shop.notices import queue_email


@date_field_task(
    Contract.ends_on,
    Before(days=7, at="09:00"),
    where=Contract.status == "active",
    skip_holiday=True,
    row_label=Contract.subject,
)
def contract_reminder(contract):
    """Contract expiry reminder"""
    queue_email(
        contract.email,
        f"Your contract “{contract.subject}” ends on {contract.ends_on}.",
    )
    contract.status = "expiring"
    contract.reminded_at = datetime.now()
    return {"reminded": contract.email}
