"""Reading what the caller hands to `recall`: every bound is checked before anything is asked. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from mnemic.errors import InputError
from mnemic.inputs import read_json, read_name, read_tags, read_text, read_time
from mnemic.records import KINDS
from mnemic.retrieval.recall import Question

MAX_QUESTION = 100_000
MAX_LIMIT = 10_000
MAX_BUDGET = 10_000_000


def read_question(text: Any, given: Mapping[str, Any]) -> Question:
    """Check a question and what narrows it, by the names of `recall`; raises `InputError`."""
    diversity, session = given["diversity"], given["in_session"]
    if not isinstance(text, str):
        raise InputError(f"a question is a string, not {type(text).__name__}")
    if not text.strip():
        raise InputError("the question is empty; to see everything, list the memories")
    if isinstance(diversity, bool) or not isinstance(diversity, int | float):
        raise InputError("diversity is a number from 0 to 1")
    if not 0 <= diversity <= 1:
        raise InputError(f"diversity is a number from 0 to 1, not {diversity}")
    return Question(
        text=read_text(text, "the question", MAX_QUESTION),
        at=_moment(given["at"], "at") or datetime.now(UTC),
        limit=_whole(given["limit"], "limit", MAX_LIMIT),
        budget=None if given["budget"] is None else _whole(given["budget"], "budget", MAX_BUDGET),
        kinds=_kinds(given["kinds"]),
        since=_moment(given["since"], "since"),
        until=_moment(given["until"], "until"),
        session=None if session is None else read_name(session, "in_session"),
        where=read_json(given["where"], "where"),
        tags=read_tags(given["tags"]),
        diversity=float(diversity),
    )


def _moment(value: Any, what: str) -> datetime | None:
    if isinstance(value, datetime) and value.tzinfo is not None:
        # Its own zone says what "yesterday" means to the one who asks.
        read_time(value, what)
        return value
    if isinstance(value, str):
        read_time(value, what)
        return datetime.fromisoformat(value.strip())
    return None if value is None else read_time(value, what)


def _whole(value: Any, what: str, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{what} is a whole number, not {type(value).__name__}")
    if not 1 <= value <= most:
        raise InputError(f"{what} must be from 1 to {most:,}, not {value}")
    return value


def _kinds(kinds: Any) -> Sequence[Any] | None:
    if kinds is None:
        return None
    if not isinstance(kinds, Iterable):
        raise InputError(f"kinds are some of {', '.join(KINDS)}")
    named = (kinds,) if isinstance(kinds, str) else tuple(kinds)
    unknown = [kind for kind in named if kind not in KINDS]
    if unknown:
        raise InputError(f"unknown kind {unknown[0]!r}; known are {', '.join(KINDS)}")
    return named
