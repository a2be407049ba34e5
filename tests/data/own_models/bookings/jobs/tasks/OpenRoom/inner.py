from bookings.web import Room, db
from flask import current_app


def customFunc(booking):
    room = db.session.get(Room, booking.room_id)  # needs the application's context
    booking.mail = f"{current_app.config['SENDER']}: {room.name}"
    return booking.mail
