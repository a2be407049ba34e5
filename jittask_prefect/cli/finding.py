"""A line of `jittask doctor`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One result of the examination.

    Args:
        about: The subject: `versions`, `app`, `database` or `server`.
        state: `ok`, `warning` or `wrong`.
        text: The result, and what to do about a fault.
    """

    about: str
    state: str
    text: str
