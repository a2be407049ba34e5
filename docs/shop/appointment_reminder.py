from datetime import datetime

from jittask_prefect import Before, date_field_task
from shop.models import Appointment
from shop.notices import send_sms


@date_field_task(
    Appointment.starts_at,
    Before(minutes=15),
    where=Appointment.status != "cancelled",
    missed={"policy": "none", "grace": 900},
    row_label=Appointment.customer,
)
def appointment_reminder(appointment):
    """Appointment reminder"""
    text = f"Your appointment “{appointment.subject}” begins at {appointment.starts_at:%H:%M}."
    send_sms(appointment.phone, text)
    appointment.reminded_at = datetime.now()
    return {"reminded": appointment.phone}
