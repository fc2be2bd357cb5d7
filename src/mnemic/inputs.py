"""Checks of what comes in from outside: texts, names, times, tags, JSON. Pure; raises `InputError`."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Any

from mnemic.errors import InputError

MAX_TEXT = 2_000_000
MAX_ID = 512
MAX_TAGS = 64
MAX_TAG = 200
MAX_JSON = 262_144


def read_text(text: str, what: str, most: int = MAX_TEXT) -> str:
    """Check a text that will be stored: its length, no NUL, no lone surrogates."""
    if len(text) > most:
        raise InputError(f"{what} has {len(text):,} characters; at most {most:,} are taken")
    if "\x00" in text:
        raise InputError(f"{what} holds a NUL character; remove it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{what} holds a lone surrogate at character {error.start}; it was decoded wrongly"
        ) from None
    return text


def read_name(name: Any, what: str) -> str:
    """Check an id or a name: a string of 1 to 512 characters."""
    if not isinstance(name, str):
        raise InputError(f"{what} must be a string, not {type(name).__name__}")
    if not name.strip():
        raise InputError(f"{what} must not be empty")
    return read_text(name, what, MAX_ID)


def read_time(value: Any, what: str) -> datetime:
    """Read a moment: an aware datetime, ISO 8601 text with its zone, or seconds since 1970. UTC.

    >>> read_time("2023-05-08T15:56:00+02:00", "said_at").isoformat()
    '2023-05-08T13:56:00+00:00'
    """
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            raise InputError(
                f"{what} {value[:40]!r} is no ISO 8601 time such as 2023-05-08T13:56:00Z"
            ) from None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise InputError(f"{what} must be a finite number of seconds since 1970")
        try:
            moment = datetime.fromtimestamp(value, UTC)
        except (OverflowError, ValueError, OSError):
            raise InputError(f"{what} {value!r} lies outside the calendar") from None
    else:
        hint = "; give it a time of day and a zone" if isinstance(value, date) else ""
        raise InputError(f"{what} must be an aware datetime, ISO 8601 text or seconds{hint}")
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise InputError(
            f"{what} {moment.isoformat()} has no time zone; add one, for example +00:00"
        )
    try:
        moment = moment.astimezone(UTC)
    except OverflowError:
        raise InputError(f"{what} {moment.isoformat()} lies outside the calendar in UTC") from None
    return moment


def read_tags(tags: Any) -> tuple[str, ...]:
    """Check tags: a list of short strings; order and repeats don't matter."""
    if tags is None:
        return ()
    if isinstance(tags, str) or not isinstance(tags, Iterable):
        raise InputError("tags are a list of strings")
    found = sorted({read_text(read_name(tag, "a tag"), "a tag", MAX_TAG) for tag in tags})
    if len(found) > MAX_TAGS:
        raise InputError(f"at most {MAX_TAGS} tags on one message")
    return tuple(found)


def read_json(value: Any, what: str) -> dict[str, Any]:
    """Check that a mapping is JSON, and make a copy that nobody else holds."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InputError(f"{what} must be a mapping")
    try:
        text = json.dumps(dict(value), ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{what} can't be written as JSON: {error}") from None
    if len(text) > MAX_JSON:
        raise InputError(f"{what} has {len(text):,} characters of JSON; at most {MAX_JSON:,}")
    copy: dict[str, Any] = json.loads(text)
    return copy
