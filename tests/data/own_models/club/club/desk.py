from datetime import date

from club.database import Session
from club.models import Membership


def join(branch: str, number: int, ends: date) -> None:
    Session.add(Membership(branch=branch, number=number, ends=ends))
    Session.commit()
    Session.remove()


def prolong(branch: str, number: int, ends: date) -> None:
    Session.get_one(Membership, (branch, number)).ends = ends
    Session.commit()
    Session.remove()
