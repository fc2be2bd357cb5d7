"""Reading what the caller hands to `recall`: every bound is checked before anything is asked. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from mnemic.errors import InputError
from mnemic.inputs import (
    ANY_YEAR,
    kind_of,
    read_json,
    read_name,
    read_share,
    read_tags,
    read_text,
    read_time,
    shown,
)
from mnemic.records import KINDS
from mnemic.retrieval.recall import Question

MAX_QUESTION = 100_000
MAX_LIMIT = 10_000
MAX_BUDGET = 10_000_000
MAX_KINDS = 64


def read_question(text: Any, given: Mapping[str, Any]) -> Question:
    """Check a question and what narrows it, by the names of `recall`; raises `InputError`."""
    session, least = given["in_session"], given["min_relevance"]
    if not isinstance(text, str):
        raise InputError(f"a question is a string, not {kind_of(text)}")
    if not text.strip():
        raise InputError("the question is empty or blank; to see everything, list the memories")
    since, until = read_moment(given["since"], "since"), read_moment(given["until"], "until")
    if since is not None and until is not None and since > until:
        raise InputError(f"since ({since.isoformat()}) lies after until ({until.isoformat()})")
    return Question(
        text=read_text(text, "the question", MAX_QUESTION),
        at=read_moment(given["at"], "at"),
        limit=read_whole(given["limit"], "limit", MAX_LIMIT),
        budget=None
        if given["budget"] is None
        else read_whole(given["budget"], "budget", MAX_BUDGET),
        kinds=_kinds(given["kinds"]),
        since=since,
        until=until,
        session=None if session is None else read_name(session, "in_session"),
        where=read_json(given["where"], "where"),
        tags=read_tags(given["tags"]),
        diversity=read_share(given["diversity"], "diversity"),
        min_relevance=None if least is None else read_share(least, "min_relevance"),
    )


def read_moment(value: Any, what: str) -> datetime | None:
    """An aware time, in the zone in which it was given; None for None. Raises `InputError`."""
    if value is None:
        return None
    moment = read_time(value, what, ANY_YEAR)
    # Its own zone says what "yesterday" means to the one who asks.
    if isinstance(value, datetime):
        return value
    return datetime.fromisoformat(value.strip()) if isinstance(value, str) else moment


def read_whole(value: Any, what: str, most: int) -> int:
    """A whole number from 1 to `most`; raises `InputError`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{what} is a whole number, not {shown(value)}")
    if not 1 <= value <= most:
        raise InputError(f"{what} must be from 1 to {most:,}, not {shown(value)}")
    return value


def _kinds(kinds: Any) -> Sequence[Any] | None:
    if kinds is None:
        return None
    if isinstance(kinds, bytes | bytearray | Mapping) or not isinstance(kinds, Iterable):
        raise InputError(f"kinds must be some of {', '.join(KINDS)}, not {shown(kinds)}")
    # Naming one twice says nothing new, so there is no need to read on for ever.
    named = (kinds,) if isinstance(kinds, str) else tuple(islice(kinds, MAX_KINDS))
    unknown = [kind for kind in named if not isinstance(kind, str) or kind not in KINDS]
    if unknown:
        raise InputError(f"kinds must be some of {', '.join(KINDS)}, not {shown(unknown[0])}")
    return named
