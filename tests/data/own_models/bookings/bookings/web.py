import os
from datetime import datetime

from flask import Flask, jsonify, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)


class Room(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Booking(db.Model):
    id: Mapped[int] = mapped_column(primary_key=True)
    begins: Mapped[datetime]
    room_id: Mapped[int] = mapped_column(db.ForeignKey("room.id"))
    room: Mapped[Room] = db.relationship()
    mail: Mapped[str | None]


web = Flask(__name__)
web.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{os.environ['BOOKINGS_DATABASE']}"
web.config["SENDER"] = "rooms@example.com"
db.init_app(web)


@web.post("/bookings")
def book():
    booking = Booking(
        room=db.get_or_404(Room, request.json["room"]),
        begins=datetime.fromisoformat(request.json["begins"]),
    )
    db.session.add(booking)
    db.session.commit()
    return jsonify(id=booking.id)


@web.delete("/bookings/<int:key>")
def cancel(key):
    db.session.delete(db.get_or_404(Booking, key))
    db.session.commit()
    return "", 204


def engine():
    """The engine, for `jobs/app.json`."""
    with web.app_context():
        return db.engine
