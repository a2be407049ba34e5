import json
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any

from sqlmodel import select

from jittask_prefect import NormalService

FEED = Path(__file__).parents[2] / "data" / "feed.json"
CONTACT = ("customer", "email", "phone")


class FeedSvc(NormalService):
    def importFeed(self) -> dict[str, int]:
        """Take over the partner's rows; of those that the shop has already, only the contact details."""
        now = app.getElement("services.ClockSvc").now()
        feed = json.loads(FEED.read_text(encoding="utf-8"))
        added = updated = 0
        with app.session() as s:
            for name, records in feed.items():
                model = app.getElement(f"models.{name}")
                rows = {row.partnerKey: row for row in s.exec(select(model))}
                for record in records:
                    row = rows.get(record["partnerKey"])
                    if row is None:
                        s.add(
                            model(
                                **{
                                    field: resolve(value, now)
                                    for field, value in record.items()
                                }
                            )
                        )
                        added += 1
                    else:
                        for field in CONTACT:
                            if field in record:
                                setattr(row, field, record[field])
                        updated += s.is_modified(row)
            s.commit()
        log.info("partner feed: %d rows added, %d updated", added, updated)
        return {"added": added, "updated": updated}


def resolve(value: Any, now: datetime) -> Any:
    """A relative date of the feed as a date or a datetime; any other value as it is."""
    match value:
        case {"in_days": days, "at": clock}:
            return datetime.combine(
                now.date() + timedelta(days=days), time.fromisoformat(clock)
            )
        case {"in_days": days}:
            return now.date() + timedelta(days=days)
        case {"in_minutes": minutes}:
            return now + timedelta(minutes=minutes)
    return value
