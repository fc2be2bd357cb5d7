"""Reading what the caller hands over as a fact, and what makes two of them one. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import islice
from typing import Any, get_args
from uuid import UUID

from uuid_utils import uuid7

from mnemic.errors import InputError
from mnemic.inputs import (
    kind_of,
    read_json,
    read_name,
    read_share,
    read_tags,
    read_text,
    read_time,
    shown,
)
from mnemic.models.terms import TERMS_VERSION, count_terms
from mnemic.records import MemoryRecord, Source
from mnemic.stores.facts import NewFact
from mnemic.stores.rows import NewPassage
from mnemic.writing.passages import normalise

# A fact is a sentence or two. What is longer is something that was said: a message, cut into passages.
MAX_FACT = 2_000
MAX_MESSAGES = 1_000
# What a fact weighs in a profile unless told otherwise: there is room above and below.
USUAL_IMPORTANCE = 0.5

_FIELDS = {
    "confidence",
    "importance",
    "said_at",
    "valid_from",
    "valid_to",
    "expires_at",
    "message_ids",
    "session",
    "tags",
    "metadata",
    "pinned",
    "source",
}


def read_fact(text: Any, given: Mapping[str, Any], now: datetime) -> NewFact:
    """Check a fact and what is said of it, by the names of `facts.remember`; raises `InputError`."""
    unknown = given.keys() - _FIELDS
    if unknown:
        raise InputError(
            f"unknown field {min(map(shown, unknown))}; a fact has {', '.join(sorted(_FIELDS))};"
            " put anything else into metadata"
        )
    said_at = given.get("said_at")
    valid_from, valid_to = (_moment(given, name) for name in ("valid_from", "valid_to"))
    if valid_from is not None and valid_to is not None and valid_to <= valid_from:
        raise InputError(
            f"valid_to ({valid_to.isoformat()}) must lie after valid_from ({valid_from.isoformat()})"
        )
    session = given.get("session")
    messages = _read_messages(given.get("message_ids"))
    if session is not None and not messages:
        raise InputError("session says where the messages of message_ids were said; give both")
    place = None if session is None else read_name(session, "session")
    record = MemoryRecord(
        id=str(UUID(bytes=uuid7().bytes)),
        kind="semantic",
        text=read_fact_text(text),
        said_at=now if said_at is None else read_time(said_at, "said_at"),
        recorded_at=now,
        source=read_source(given.get("source", "user")),
        valid_from=valid_from,
        valid_to=valid_to,
        confidence=read_share(given.get("confidence", 1.0), "confidence"),
        importance=read_share(given.get("importance", USUAL_IMPORTANCE), "importance"),
        pinned=read_flag(given.get("pinned", False), "pinned"),
        expires_at=_moment(given, "expires_at"),
        tags=read_tags(given.get("tags")),
        metadata=read_json(given.get("metadata"), "metadata"),
    )
    return new_fact(record, tuple((message, place) for message in messages))


def new_fact(record: MemoryRecord, said_in: tuple[tuple[str, str | None], ...] = ()) -> NewFact:
    """Make a fact ready to be stored: its fingerprint and its terms."""
    terms = count_terms(record.text)
    words = NewPassage(
        text=record.text,
        start=0,
        stop=0,
        fingerprint=fingerprint(record),
        length=terms.length,
        hashes=terms.hashes,
        counts=terms.counts,
        terms_version=TERMS_VERSION,
    )
    return NewFact(record, words, said_in)


def fingerprint(record: MemoryRecord) -> bytes:
    """Tell the same fact: same words (case, spaces and stops apart), source, labels and times it holds.

    No passage has the fingerprint of a fact, whatever either says.
    """
    times = (record.valid_from, record.valid_to, record.expires_at)
    parts = (
        "fact",
        record.source,
        normalise(record.text),
        sorted(record.tags),
        dict(record.metadata),
        *(None if moment is None else moment.isoformat() for moment in times),
    )
    packed = json.dumps(parts, ensure_ascii=False, sort_keys=True).encode()
    return hashlib.blake2b(packed, digest_size=16, person=b"mnemic.fact").digest()


def read_fact_text(text: Any) -> str:
    """Check the words of a fact; white space at the edges is left out."""
    if not isinstance(text, str):
        raise InputError(f"a fact is a string, not {kind_of(text)}")
    if not text.strip():
        raise InputError("the fact is empty or blank; there is nothing to remember")
    if len(text) > MAX_FACT:
        raise InputError(
            f"a fact has at most {MAX_FACT:,} characters, not {len(text):,}; make several facts of it,"
            " or remember it as a message"
        )
    return read_text(text, "the fact").strip()


def read_source(source: Any) -> Source:
    """Check who a fact is from."""
    known = get_args(Source)
    if not isinstance(source, str) or source not in known:
        raise InputError(f"source must be one of {', '.join(known)}, not {shown(source)}")
    found: Source = next(name for name in known if name == source)
    return found


def read_flag(value: Any, what: str) -> bool:
    """Check what is either so or not."""
    if not isinstance(value, bool):
        raise InputError(f"{what} must be True or False, not {shown(value)}")
    return value


def _moment(given: Mapping[str, Any], name: str) -> datetime | None:
    return None if given.get(name) is None else read_time(given[name], name)


def _read_messages(ids: Any) -> tuple[str, ...]:
    if ids is None:
        return ()
    wrong = isinstance(ids, str | bytes | bytearray | Mapping) or not isinstance(ids, Iterable)
    if wrong:
        raise InputError(f"message_ids must be a list of your ids of messages, not {kind_of(ids)}")
    given = list(islice(ids, MAX_MESSAGES + 1))
    if len(given) > MAX_MESSAGES:
        raise InputError(f"at most {MAX_MESSAGES:,} messages are taken for one fact")
    return tuple(dict.fromkeys(read_name(each, "a message id") for each in given))
