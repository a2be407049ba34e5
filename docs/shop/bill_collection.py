from jittask_prefect import After, Weekly, date_field_task
from shop.models import Bill
from shop.notices import queue_email


@date_field_task(
    Bill.due_on,
    After(days=3, at="10:00"),
    repeat=Weekly(),
    until=After(Bill.due_on, months=3),
    where=Bill.paid.is_(False) & (Bill.amount > 0),
)
def bill_collection(bill):
    """Bill collection"""
    bill.reminders += 1
    queue_email(
        bill.email, f"Reminder {bill.reminders}: your bill was due on {bill.due_on}."
    )
    return {"reminders": bill.reminders}
