"""What goes into the store and comes out of it as rows, before anyone makes records of them.

Conversions live here too: times to microseconds, ids to bytes, JSON to text. Nothing here does I/O.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from mnemic.errors import InputError
from mnemic.inputs import shown
from mnemic.records import Change, MemoryRecord, Message, MessageState, Skipped

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# The key of a scope's settings under which its time zone's IANA name is kept.
TIMEZONE = "timezone"
# A stream writes what has arrived, and a sign of life, more often than this.
STALE_MICROS = 5_000_000


@dataclass(frozen=True, slots=True)
class NewPassage:
    """A stretch of a message that becomes a memory: characters `start` to `stop` of its content.

    `kept` is the memory that an import brings along for it: its id, status and marks stay.
    """

    text: str
    start: int
    stop: int
    fingerprint: bytes
    length: int
    hashes: bytes
    counts: bytes
    terms_version: int
    kept: MemoryRecord | None = None


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message ready to be committed. `digest` tells same from other content under one id."""

    message: Message
    digest: bytes
    passages: tuple[NewPassage, ...]
    id_given: bool = True


@dataclass(slots=True)
class Appended:
    """What one transaction of new messages did. `to_embed` holds record ids, speakers and texts."""

    memory_ids: list[bytes] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    to_embed: list[tuple[bytes, str | None, str]] = field(default_factory=list)
    job: bytes | None = None
    stored: int = 0


class Embedded(NamedTuple):
    """The vector of a record and the codes of its tokens, as they are kept, with what they were made of."""

    record: bytes
    speaker: str | None
    text: str
    vector: bytes
    codes: bytes | None


class Counted(NamedTuple):
    """The terms of a record, as they are kept, with what they were counted in."""

    record: bytes
    speaker: str | None
    text: str
    length: int
    hashes: bytes
    counts: bytes


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `stop` of a message, and the memory that stands on them."""

    record: bytes
    start: int
    stop: int
    repeat: bool


@dataclass(frozen=True, slots=True)
class SaidMessage:
    """A message with what stands on it; `memories` are those whose first message it is."""

    seq: int
    message: Message
    spans: list[Span] = field(default_factory=list)
    memories: dict[bytes, MemoryRecord] = field(default_factory=dict)


class Stand(NamedTuple):
    """Where a scope stands: the `seq` of its last change, in the store's present epoch.

    Its settings ride along, because every question needs them and they change by a change only.
    """

    version: int
    epoch: str
    settings: str | None = None


@dataclass(frozen=True, slots=True)
class IndexRows:
    """The rows an index is made of, as columns; `repeats` are further places a memory was said.

    With `full`, they are the whole scope; else what changed, `gone` being the ids to drop.
    """

    stand: Stand
    full: bool
    columns: Mapping[str, Sequence[Any]]
    repeats: Sequence[tuple[bytes, str, int, int, int]]
    gone: Sequence[bytes] = ()

    def __len__(self) -> int:
        return len(self.columns["id"])


def zone_of(settings: str | None) -> tzinfo:
    """The time zone in a scope's settings; UTC where none is set."""
    name = None if settings is None else json.loads(settings).get(TIMEZONE)
    return UTC if name is None else ZoneInfo(name)


def asked_at(at: datetime | None, settings: str | None) -> datetime:
    """When a question is asked, as the user's clock shows it; the present where `at` is None.

    Where the scope has no time zone, that of `at` says what "yesterday" means.
    """
    zone = zone_of(settings)
    if at is None:
        return datetime.now(zone)
    return at if settings is None or zone is UTC else at.astimezone(zone)


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970 of an aware moment."""
    return (moment - _EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The aware UTC moment."""
    return _EPOCH + timedelta(microseconds=micros)


def now_micros() -> int:
    """The present, as rows keep it."""
    return to_micros(datetime.now(UTC))


def optional_micros(moment: datetime | None) -> int | None:
    """`to_micros`, with None for None."""
    return None if moment is None else to_micros(moment)


def optional_moment(micros: int | None) -> datetime | None:
    """`from_micros`, with None for None."""
    return None if micros is None else from_micros(micros)


def to_json(value: Any) -> str | None:
    """JSON of a mapping or sequence; None where it is empty."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True) if value else None


def from_json(text: str | None) -> Any:
    """What `to_json` was given; None where it was empty."""
    return None if text is None else json.loads(text)


def to_id(text: str) -> bytes | None:
    """The 16 bytes of a memory id; None where the text is no id."""
    try:
        return UUID(text).bytes
    except (ValueError, AttributeError, TypeError):
        return None


def from_id(raw: bytes) -> str:
    """The id as people see it."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def require_id(text: str) -> bytes:
    """`to_id`, or `InputError`."""
    raw = to_id(text)
    if raw is None:
        raise InputError(f"{shown(text)} is not a memory id; `recall` and `list` show them")
    return raw


def pack_vectors(vectors: NDArray[np.float32]) -> list[bytes]:
    """float16 bytes, one a row."""
    half = vectors.astype("<f2")
    return [row.tobytes() for row in half]


def message_from_row(row: Mapping[Any, Any]) -> Message:
    """Make the record of a `messages` row."""
    return Message(
        id=row["message_id"],
        session=row["session"] or None,
        role=row["role"],
        content=row["content"],
        said_at=from_micros(row["said_at"]),
        recorded_at=from_micros(row["recorded_at"]),
        name=row["name"],
        expires_at=optional_moment(row["expires_at"]),
        tags=tuple(from_json(row["tags"]) or ()),
        metadata=from_json(row["metadata"]) or {},
        extra=from_json(row["extra"]) or {},
        state=_state(row["state"], row["recorded_at"]),
    )


def _state(state: str | None, written_at: int) -> MessageState:
    """A reply under way whose text was not written for a while has lost its process."""
    if state == "streaming":
        return "streaming" if now_micros() - written_at < STALE_MICROS else "interrupted"
    return "interrupted" if state == "interrupted" else "complete"


# The columns of `records` that a memory is made of, in the order in which `make_memory` takes them.
MEMORY_COLUMNS = (
    "id",
    "kind",
    "text",
    "said_at",
    "recorded_at",
    "source",
    "speaker",
    "session",
    "status",
    "valid_from",
    "valid_to",
    "confidence",
    "importance",
    "pinned",
    "expires_at",
    "tags",
    "metadata",
)


def make_memory(columns: Sequence[Any], message_ids: Iterable[str]) -> MemoryRecord:
    """Make the record of `MEMORY_COLUMNS` and the caller's ids of the messages it stands on."""
    key, kind, text, said_at, recorded_at, source, speaker, session, status, *rest = columns
    valid_from, valid_to, confidence, importance, pinned, expires_at, tags, metadata = rest
    return MemoryRecord(
        id=from_id(key),
        kind=kind,
        text=text,
        said_at=from_micros(said_at),
        recorded_at=from_micros(recorded_at),
        source=source,
        speaker=speaker,
        session=session or None,
        message_ids=tuple(message_ids),
        status=status,
        valid_from=optional_moment(valid_from),
        valid_to=optional_moment(valid_to),
        confidence=confidence,
        importance=importance,
        pinned=bool(pinned),
        expires_at=optional_moment(expires_at),
        tags=() if tags is None else tuple(from_json(tags)),
        metadata={} if metadata is None else from_json(metadata),
    )


def change_from_row(row: Mapping[Any, Any]) -> Change:
    """Make the record of a `changes` row."""
    record = row["record"]
    return Change(
        seq=row["seq"],
        at=from_micros(row["at"]),
        action=row["action"],
        memory_id=None if record is None else from_id(record),
    )


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield slices of at most `size` items."""
    for at in range(0, len(items), size):
        yield items[at : at + size]
