from bookings.web import Booking

__all__ = ["Booking"]
