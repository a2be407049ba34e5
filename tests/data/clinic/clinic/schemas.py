"""What requests and answers hold."""

from datetime import date, datetime
from decimal import Decimal

from pydantic import BaseModel, ConfigDict


class Answer(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class NewPractitioner(BaseModel):
    name: str
    room: str


class PractitionerOut(Answer):
    id: int
    name: str
    room: str


class NewPatient(BaseModel):
    name: str
    email: str
    born: date
    wants_mail: bool = True


class PatientOut(Answer):
    id: int
    name: str
    email: str
    born: date


class NewAppointment(BaseModel):
    patient_id: int
    practitioner_id: int
    starts_at: datetime
    minutes: int = 30


class AppointmentOut(Answer):
    id: int
    patient_id: int
    practitioner_id: int
    starts_at: datetime
    minutes: int
    status: str
    reminded: bool


class NewInvoice(BaseModel):
    amount: Decimal
    due_on: date


class InvoiceOut(Answer):
    id: int
    appointment_id: int
    amount: Decimal
    due_on: date
    paid_on: date | None
