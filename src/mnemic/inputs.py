"""Checks of what comes in from outside: texts, names, times, tags, JSON. Pure; raises `InputError`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from mnemic.errors import InputError

MAX_TEXT = 2_000_000
MAX_ID = 512
MAX_ZONE = 64
MAX_PATH = 4096
MAX_TAGS = 64
MAX_TAG = 200
MAX_JSON = 262_144
MAX_DEPTH = 100
# What is stored lies in these years: four digits however it is written, and far enough from the ends of
# the calendar that a zone or some years more never leave it. Other languages' empty time (year 1) lies
# outside, and so does a time in milliseconds that is read as seconds, from January 1971 on.
STORED_YEARS = range(1000, 3001)
# A question stores nothing, and the ends of the calendar are how people write "from ever" and "for ever".
ANY_YEAR = range(1, 10_000)
_SHOWN = 40
_MAX_ISO = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_BITS = 4096


def shown(value: Any) -> str:
    """A value as an error quotes it: short and printable, whatever it is.

    >>> shown("robot"), shown("x" * 50), shown(None), shown([1])
    ("'robot'", "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...'", 'None', 'a value of type list')
    """
    if isinstance(value, str):
        text = repr(str(value[: _SHOWN + 1]))
        return text if len(text) <= _SHOWN + 2 else f"{text[:_SHOWN]}...{text[0]}"
    if isinstance(value, int) and value.bit_length() > 64:
        return "a number of many digits"
    if value is None or isinstance(value, int | float):
        return repr(value)
    return f"a value of type {kind_of(value)}"


def kind_of(value: Any) -> str:
    """The type of a value, as an error names it."""
    return "None" if value is None else type(value).__name__[:_SHOWN]


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
            f"{what} holds a lone surrogate at character {error.start};"
            " decode it anew, with the encoding that it has"
        ) from None
    return text


def read_name(name: Any, what: str, most: int = MAX_ID) -> str:
    """Check an id or a name: a string of 1 to 512 characters, not all of them blank."""
    if not isinstance(name, str):
        raise InputError(f"{what} must be a string, not {kind_of(name)}")
    if not name.strip():
        raise InputError(f"{what} must not be empty or blank")
    return read_text(name, what, most)


def read_path(value: Any, what: str) -> str:
    """Check what should name a file, or a database by its URL; `~` is the home folder."""
    if not isinstance(value, str | os.PathLike):
        raise InputError(
            f"{what} must be named by a path, as text or a `Path`, not {kind_of(value)}"
        )
    path = os.fspath(value)
    if not isinstance(path, str):
        raise InputError(f"{what} must be named by a path of text, not {kind_of(path)}")
    read_name(path, f"the path of {what}", MAX_PATH)
    home = os.path.expanduser(path)
    if home.startswith("~") and path.startswith("~"):
        raise InputError(f"{shown(path)} begins with ~, and there is no such home folder")
    return home


def check_progress(progress: Any) -> None:
    """Refuse what can't be called, before the work that it would tell of."""
    if progress is not None and not callable(progress):
        raise InputError(f"progress must be a function, not {kind_of(progress)}")


def read_time(value: Any, what: str, years: range = STORED_YEARS) -> datetime:
    """Read a moment: an aware datetime, ISO 8601 text with its zone, or seconds since 1970. UTC.

    >>> read_time("2023-05-08T15:56:00+02:00", "said_at").isoformat()
    '2023-05-08T13:56:00+00:00'
    """
    try:
        moment = _moment(value, what).astimezone(UTC)
    except OverflowError:
        moment = None
    if moment is None or moment.year not in years:
        said = value.isoformat() if isinstance(value, datetime) else shown(value)
        number = isinstance(value, int | float)
        raise InputError(
            f"{what} {said} lies outside the years {years[0]} to {years[-1]}"
            + ("; seconds since 1970 are taken, not milliseconds" if number else "")
        )
    return moment


def _moment(value: Any, what: str) -> datetime:
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{what} must be a finite number of seconds since 1970, not {value}")
        return _EPOCH + timedelta(seconds=value)  # `fromtimestamp` begins in 1970 on Windows
    if isinstance(value, datetime):
        moment = value
    elif isinstance(value, str):
        moment = _from_iso(value, what)
    else:
        hint = "; give it a time of day and a zone" if isinstance(value, date) else ""
        raise InputError(
            f"{what} must be an aware datetime, ISO 8601 text or seconds since 1970,"
            f" not {kind_of(value)}{hint}"
        )
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise InputError(
            f"{what} {moment.isoformat()} has no time zone; add one, for example +00:00"
        )
    return moment


def _from_iso(text: str, what: str) -> datetime:
    try:
        # Python takes any character between date and time, half a surrogate pair too.
        if len(text) <= _MAX_ISO and text.isascii():
            return datetime.fromisoformat(text.strip())
    except ValueError:
        pass
    raise InputError(f"{what} {shown(text)} is no ISO 8601 time such as 2023-05-08T13:56:00Z")


def read_number(value: Any, what: str, least: int, most: int) -> int:
    """Check a whole number within limits."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InputError(
            f"{what} must be a whole number from {least:,} to {most:,}, not {shown(value)}"
        )
    return value


def read_zone(name: Any, what: str) -> ZoneInfo:
    """The time zone of an IANA name such as `Europe/Lisbon`; raises `InputError`."""
    try:
        if isinstance(name, str) and len(name) <= MAX_ZONE:
            return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        pass  # not a name, not a zone's file, or a folder of them
    raise InputError(
        f"{what} must be a time zone's name such as Europe/Lisbon or UTC, not {shown(name)}"
    )


def read_share(value: Any, what: str) -> float:
    """Check a number from 0 to 1."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        raise InputError(f"{what} is a number from 0 to 1, not {shown(value)}")
    return float(value)


def read_tags(tags: Any) -> tuple[str, ...]:
    """Check tags: a list of short strings; order and repeats don't matter."""
    if tags is None:
        return ()
    if isinstance(tags, str | bytes | bytearray | Mapping) or not isinstance(tags, Iterable):
        raise InputError(f"tags must be a list of strings, not {kind_of(tags)}")
    given = list(islice(tags, MAX_TAGS + 1))
    if len(given) > MAX_TAGS:
        raise InputError(f"there are more than {MAX_TAGS} tags; at most {MAX_TAGS} are taken")
    return tuple(sorted({read_name(tag, "a tag", MAX_TAG) for tag in given}))


def read_json(value: Any, what: str) -> dict[str, Any]:
    """Check that a mapping is JSON, and make a copy that nobody else holds."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InputError(f"{what} must be a mapping, not {kind_of(value)}")
    given = dict(value)
    if not given:
        return {}
    _check_json(given, what)
    text = json.dumps(given, ensure_ascii=False)
    if len(text) > MAX_JSON:
        raise _too_large(what)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{what} holds a lone surrogate; decode it anew, with the encoding that it has"
        ) from None
    copy: dict[str, Any] = json.loads(text)
    return copy


def _check_json(given: dict[str, Any], what: str) -> None:
    """Refuse what JSON can't hold or we won't, before the encoder follows it.

    The encoder turns keys into strings, which may make two of them one, recurses as deep as the
    stack happens to allow, and writes out what is held in many places once for each.
    """
    size = 0
    rest: list[tuple[Any, int]] = [(given, 0)]
    while rest:
        parts, depth = rest.pop()
        size += len(parts)
        if isinstance(parts, dict):
            size += sum(_length_of_key(key, what) for key in parts)
            parts = parts.values()
        if depth >= MAX_DEPTH:
            raise InputError(f"{what} is nested over {MAX_DEPTH} deep, or holds itself; flatten it")
        if size > MAX_JSON:
            raise _too_large(what)
        for part in parts:
            if isinstance(part, str):
                size += len(part)
            elif isinstance(part, dict | list | tuple):
                rest.append((part, depth + 1))
            else:
                _check_number(part, what)


def _length_of_key(key: Any, what: str) -> int:
    if not isinstance(key, str):
        raise InputError(f"{what} has {shown(key)} for a key; in JSON keys are strings")
    return len(key)


def _check_number(part: Any, what: str) -> None:
    if part is None or (isinstance(part, int) and part.bit_length() <= _MAX_BITS):
        return
    if isinstance(part, float) and math.isfinite(part):
        return
    raise InputError(
        f"{what} can't hold {shown(part)}; JSON has strings, finite numbers, true, false, null,"
        " lists, and mappings with string keys"
    )


def _too_large(what: str) -> InputError:
    return InputError(f"{what} is larger than {MAX_JSON:,} characters of JSON; keep it elsewhere")
