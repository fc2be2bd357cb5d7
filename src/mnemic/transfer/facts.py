"""Facts as lines of an export, and back. A line of plain fields, as `facts.remember` has them, will do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, get_args

from mnemic.errors import InputError
from mnemic.inputs import kind_of, read_name, read_time, shown
from mnemic.memory import ScopedMemory
from mnemic.records import MemoryRecord, Status
from mnemic.stores.facts import NewFact
from mnemic.stores.rows import from_id, require_id
from mnemic.writing.facts import new_fact, read_fact

_PAGE = 500
# What an export says of a fact beside what `facts.remember` takes.
_KEPT = {"id", "text", "recorded_at", "status", "said_in"}


def fact_lines(handle: ScopedMemory) -> Iterator[dict[str, Any]]:
    """Yield every fact of a scope in the order of recording, as a line's fields."""
    rows, after = handle._core.fact_rows, b""
    while page := rows.page(handle.scope, after, _PAGE):
        said_in = rows.said_in(handle.scope, [key for key, _ in page])
        for key, fact in page:
            yield _line(fact, said_in.get(key, []))
        after = page[-1][0]


def _line(fact: MemoryRecord, said_in: Sequence[tuple[str, str]]) -> dict[str, Any]:
    return {
        "type": "fact",
        "id": fact.id,
        "text": fact.text,
        "said_at": fact.said_at.isoformat(),
        "recorded_at": fact.recorded_at.isoformat(),
        "valid_from": _time(fact.valid_from),
        "valid_to": _time(fact.valid_to),
        "expires_at": _time(fact.expires_at),
        "status": fact.status,
        "source": fact.source,
        "confidence": fact.confidence,
        "importance": fact.importance,
        "pinned": fact.pinned,
        "tags": list(fact.tags),
        "metadata": dict(fact.metadata),
        "said_in": [{"id": id, "session": session or None} for id, session in said_in],
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def read_fact_line(fields: Mapping[str, Any], now: datetime) -> NewFact:
    """Read the fields of a line; raises `InputError`."""
    given = {key: value for key, value in fields.items() if key not in _KEPT}
    new = read_fact(fields.get("text"), given, now)
    if not fields.keys() & (_KEPT - {"text"}):
        return new
    status = fields.get("status", "current")
    if status not in get_args(Status):
        raise InputError(f"unknown status {shown(status)}; known are {', '.join(get_args(Status))}")
    id, recorded_at = fields.get("id"), fields.get("recorded_at")
    record = replace(
        new.record,
        id=new.record.id if id is None else from_id(require_id(id)),
        recorded_at=now if recorded_at is None else read_time(recorded_at, "recorded_at"),
        status=status,
    )
    return new_fact(record, new.said_in + _read_said_in(fields.get("said_in")))


def _read_said_in(given: Any) -> tuple[tuple[str, str], ...]:
    if given is None:
        return ()
    if not isinstance(given, list):
        raise InputError(f"said_in must be a list of messages, not {kind_of(given)}")
    return tuple(_read_place(place) for place in given)


def _read_place(place: Any) -> tuple[str, str]:
    if not isinstance(place, dict):
        raise InputError(f"a message of said_in has an id and a session, not {kind_of(place)}")
    session = place.get("session")
    return (
        read_name(place.get("id"), "the id of a message of said_in"),
        "" if session is None else read_name(session, "the session of a message of said_in"),
    )
