"""The web application."""

from datetime import date

from fastapi import Depends, FastAPI, HTTPException
from sqlalchemy import select
from sqlalchemy.orm import Session

from clinic import booking, schemas
from clinic.database import get_session
from clinic.models import Appointment, Invoice, Patient, Practitioner

web = FastAPI(title="Clinic")


@web.post("/practitioners", response_model=schemas.PractitionerOut, status_code=201)
def add_practitioner(
    new: schemas.NewPractitioner, session: Session = Depends(get_session)
) -> Practitioner:
    practitioner = Practitioner(**new.model_dump())
    session.add(practitioner)
    session.commit()
    return practitioner


@web.post("/patients", response_model=schemas.PatientOut, status_code=201)
def add_patient(
    new: schemas.NewPatient, session: Session = Depends(get_session)
) -> Patient:
    patient = Patient(**new.model_dump())
    session.add(patient)
    session.commit()
    return patient


@web.get("/patients", response_model=list[schemas.PatientOut])
def patients(session: Session = Depends(get_session)) -> list[Patient]:
    return list(session.scalars(select(Patient).order_by(Patient.name)))


@web.post("/appointments", response_model=schemas.AppointmentOut, status_code=201)
def book(
    new: schemas.NewAppointment, session: Session = Depends(get_session)
) -> Appointment:
    try:
        return booking.book(session, Appointment(**new.model_dump()))
    except booking.BookedError:
        raise HTTPException(409, "the practitioner has another appointment") from None


@web.get("/appointments/{key}", response_model=schemas.AppointmentOut)
def appointment(key: int, session: Session = Depends(get_session)) -> Appointment:
    return _one(session, key)


@web.delete("/appointments/{key}", status_code=204)
def cancel(key: int, session: Session = Depends(get_session)) -> None:
    booking.cancel(session, _one(session, key))


@web.post(
    "/appointments/{key}/invoices", response_model=schemas.InvoiceOut, status_code=201
)
def invoice(
    key: int, new: schemas.NewInvoice, session: Session = Depends(get_session)
) -> Invoice:
    made = Invoice(appointment=_one(session, key), **new.model_dump())
    session.add(made)
    session.commit()
    return made


@web.post("/invoices/{key}/pay", response_model=schemas.InvoiceOut)
def pay(key: int, session: Session = Depends(get_session)) -> Invoice:
    found = session.get(Invoice, key)
    if found is None:
        raise HTTPException(404, "no such invoice")
    found.paid_on = date.today()
    session.commit()
    return found


def _one(session: Session, key: int) -> Appointment:
    found = session.get(Appointment, key)
    if found is None:
        raise HTTPException(404, "no such appointment")
    return found
