from jittask_prefect import date_field_task
from shop.models import Member
from shop.notices import queue_email


@date_field_task(
    Member.expires_at,
    where=Member.level.in_(["silver", "gold"]),
    missed={"policy": "latest", "lookback": 604800},
)
def membership_downgrade(member):
    """Membership downgrade at expiry"""
    before, member.level = member.level, "basic"
    queue_email(member.email, f"Your {before} membership has expired.")
    return {"from": before, "to": member.level}
