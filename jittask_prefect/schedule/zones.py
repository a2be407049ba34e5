"""Time zones by their IANA names, with the nearest names where there is none."""

from __future__ import annotations

from difflib import get_close_matches
from zoneinfo import ZoneInfo, available_timezones

ZONE = "an IANA time zone name such as Europe/Berlin"


def find_zone(name: str) -> ZoneInfo | None:
    """The zone of an IANA name; None for any other text, one with spaces around a name included."""
    try:
        if name and name == name.strip():
            return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        pass
    return None


def read_zone(name: str) -> ZoneInfo:
    """The zone of an IANA name.

    Args:
        name: An IANA name such as `Asia/Shanghai`.

    Raises:
        ValueError: No such zone; the message says which names are allowed, with the nearest names.
    """
    if not isinstance(name, str):
        raise ValueError(ZONE)

    if (found := find_zone(name)) is not None:
        return found

    known = sorted(available_timezones(), reverse=True)
    cities = {zone.rpartition("/")[2].casefold(): zone for zone in known}
    folded = {zone.casefold(): zone for zone in known}
    wanted = name.strip().casefold().replace(" ", "_")
    near = [cities[wanted]] if wanted in cities else []
    alike = get_close_matches(wanted, sorted(folded), n=3, cutoff=0.6)
    near += [folded[match] for match in alike]
    hint = f" (did you mean {' or '.join(dict.fromkeys(near))}?)" if near else ""
    raise ValueError(f"{ZONE}{hint}")


def zone_name(name: str) -> str:
    """The name of a zone that there is; else a ValueError, as of `read_zone`."""
    read_zone(name)
    return name
