"""Which dates the "yesterday" and "next month" of a text mean, given when it was said. Pure.

English only, like the reading of questions that it rests on.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache

from mnemic.retrieval.timewords import TimeWindow, find_windows

# A text names few times; more than these would be a list of them.
MOST = 3
# A phrase that means the same seen from another year, month and weekday is a date already.
_ELSEWHERE = timedelta(days=401)
_DAY = timedelta(days=1)
# Words for a time that is no date.
_VAGUE = re.compile(r"\b(?:lately|recently|few|some|couple|these days)\b", re.IGNORECASE)


def resolved(text: str, said_at: datetime) -> list[tuple[str, str]]:
    """The relative times that a text names, each with its date; at most `MOST`.

    `said_at` is aware, in the speaker's own time zone. The day itself isn't named again.

    >>> from datetime import UTC
    >>> resolved("I saw her yesterday, as on 3 May 2021.", datetime(2023, 5, 8, tzinfo=UTC))
    [('yesterday', '2023-05-07')]
    """
    return _resolved(text, said_at, said_at.tzinfo)


# A context counts a line, then renders it. Moments of two zones are equal, so the zone is told apart.
@lru_cache(maxsize=4096)
def _resolved(text: str, said_at: datetime, zone: tzinfo | None) -> list[tuple[str, str]]:
    here = find_windows(text, said_at)
    if not here or zone is None:
        return []
    elsewhere = {(w.phrase, w.start, w.end) for w in find_windows(text, said_at + _ELSEWHERE)}
    found: dict[str, str] = {}
    for window in here:
        dated = (window.phrase, window.start, window.end) in elsewhere
        if window.relation == "in" and not dated and not _VAGUE.search(window.phrase):
            label = _label(window, zone)
            if label != said_at.date().isoformat():
                found.setdefault(window.phrase, label)
    return list(found.items())[:MOST]


def _label(window: TimeWindow, zone: tzinfo) -> str:
    """A day, a month, a year, or from which day to which."""
    start = window.start.astimezone(zone)
    end = (window.end - timedelta(microseconds=1)).astimezone(zone)
    first_day, last_day = start.date(), end.date()
    if first_day == last_day:
        return first_day.isoformat()
    after = last_day + _DAY
    if first_day.day == 1 and after.day == 1:
        if (first_day.year, first_day.month) == (last_day.year, last_day.month):
            return f"{first_day:%Y-%m}"
        if first_day.month == 1 and after.month == 1 and first_day.year == last_day.year:
            return f"{first_day:%Y}"
    last = f"{last_day:%m-%d}" if first_day.year == last_day.year else str(last_day)
    return f"{first_day} to {last}"
