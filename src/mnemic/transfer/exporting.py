"""Exporting: a scope as JSON lines, a message a line with the memories that stand on it, streamed.

Imported into an empty scope, it exports to the same lines. Vectors and terms are made anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from mnemic.memory import ScopedMemory
from mnemic.records import Message
from mnemic.stores.rows import SaidMessage, Span, from_id, from_json
from mnemic.transfer.facts import fact_lines
from mnemic.transfer.procedures import procedure_lines
from mnemic.writing.messages import content_of

_PAGE = 500


def export_lines(handle: ScopedMemory) -> Iterator[str]:
    """Yield the lines of an export, without line ends. The first names the format and the scope.

    Messages come first, then the facts that they say, then instructions. Summaries are made anew.
    """
    head = {"type": "mnemic", "version": 1, "scope": str(handle.scope)}
    settings = from_json(handle._core.session_rows.settings(handle.scope))
    yield _line(head | ({"settings": settings} if settings else {}))
    after = 0
    while page := handle._message_page(after, _PAGE):
        for item in page:
            yield _line(_message(item))
        after = page[-1].seq
    yield from map(_line, fact_lines(handle))
    yield from map(_line, procedure_lines(handle))


def export_openai(handle: ScopedMemory) -> Iterator[str]:
    """Yield one conversation a session as OpenAI's chat format has it, a line each."""
    sessions: dict[str, list[dict[str, Any]]] = {}
    after = 0
    while page := handle._message_page(after, _PAGE):
        for item in page:
            message = item.message
            turn: dict[str, Any] = {
                "role": message.role,
                "content": message.content,
                "name": message.name,
            }
            turn |= _carried(message)
            said = {key: value for key, value in turn.items() if value is not None}
            sessions.setdefault(message.session or "", []).append(said)
        after = page[-1].seq
    for session, messages in sessions.items():
        yield _line({"id": session, "messages": messages} if session else {"messages": messages})


def _message(item: SaidMessage) -> dict[str, Any]:
    message = item.message
    # What broke off before it was said to the end may have no memories yet; an import makes them.
    bare = message.state != "complete" and not item.spans and bool(message.content.strip())
    return {
        "type": "message",
        "id": message.id,
        "session": message.session,
        "role": message.role,
        "name": message.name,
        "content": content_of(message),
        "said_at": _time(message.said_at),
        "recorded_at": _time(message.recorded_at),
        "expires_at": _time(message.expires_at),
        "tags": list(message.tags),
        "metadata": dict(message.metadata),
        **({} if message.state == "complete" else {"state": "interrupted"}),
        **_carried(message),
        **({} if message.state == "complete" else {"state": "interrupted"}),
        **({} if bare else {"memories": [_memory(item, span) for span in item.spans]}),
    }


def _carried(message: Message) -> dict[str, Any]:
    """What the message carried besides its content, such as tool calls."""
    return {key: value for key, value in message.extra.items() if key != "parts"}


def _memory(item: SaidMessage, span: Span) -> dict[str, Any]:
    place = {"start": span.start, "stop": span.stop}
    if span.repeat:
        return {"repeats": from_id(span.record), **place}
    memory = item.memories[span.record]
    return {
        "id": memory.id,
        **place,
        "recorded_at": _time(memory.recorded_at),
        "status": memory.status,
        "valid_from": _time(memory.valid_from),
        "valid_to": _time(memory.valid_to),
        "confidence": memory.confidence,
        "importance": memory.importance,
        "pinned": memory.pinned,
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
