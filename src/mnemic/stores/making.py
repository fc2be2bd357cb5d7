"""The rows of a message, its memories and their terms, as the tables take them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnemic.records import Message, Scope, Source
from mnemic.stores.rows import NewPassage, optional_micros, require_id, to_json, to_micros

# The key of a message's metadata under which the measures of its stream are.
MEASURES = "stream"
_SOURCES: dict[str, Source] = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
}


def message_row(
    scope: Scope, key: bytes, seq: int, message: Message, digest: bytes
) -> dict[str, Any]:
    """The `messages` row of a message."""
    return {
        "scope": scope.key,
        "id": key,
        "seq": seq,
        "session": message.session or "",
        "message_id": message.id,
        "role": message.role,
        "name": message.name,
        "content": message.content,
        "digest": digest,
        "said_at": to_micros(message.said_at),
        "recorded_at": to_micros(message.recorded_at),
        "expires_at": optional_micros(message.expires_at),
        "tags": to_json(list(message.tags)),
        "metadata": to_json(dict(message.metadata)),
        "extra": to_json(dict(message.extra)),
        "state": None if message.state == "complete" else message.state,
    }


def record_row(
    scope: Scope, key: bytes, seq: int, number: int, message: Message, passage: NewPassage
) -> dict[str, Any]:
    """The `records` row of a passage of a message; what an import brings along for it stays."""
    kept = passage.kept
    return {
        "scope": scope.key,
        "id": key if kept is None else require_id(kept.id),
        "kind": "episodic",
        "text": passage.text,
        "fingerprint": passage.fingerprint,
        "source": _SOURCES[message.role],
        "speaker": message.name,
        "session": message.session or "",
        "seq": seq,
        "passage": number,
        "said_at": to_micros(message.said_at),
        "recorded_at": to_micros((kept or message).recorded_at),
        "valid_from": None if kept is None else optional_micros(kept.valid_from),
        "valid_to": None if kept is None else optional_micros(kept.valid_to),
        "expires_at": optional_micros(message.expires_at),
        "status": "current" if kept is None else kept.status,
        "confidence": 1.0 if kept is None else kept.confidence,
        "importance": 0.0 if kept is None else kept.importance,
        "pinned": 0 if kept is None else int(kept.pinned),
        "tags": to_json(list(message.tags)),
        "metadata": to_json(labels_of(message)),
    }


def labels_of(message: Message) -> dict[str, Any]:
    """The metadata that a message's memories carry: how fast it was said is none of theirs."""
    labels = dict(message.metadata)
    measures = labels.get(MEASURES)
    if isinstance(measures, Mapping) and "chunks" in measures:
        del labels[MEASURES]
    return labels


def term_row(scope: Scope, key: bytes, passage: NewPassage) -> dict[str, Any]:
    """The `terms` row of a passage."""
    return {
        "scope": scope.key,
        "record": key,
        "version": passage.terms_version,
        "length": passage.length,
        "hashes": passage.hashes,
        "counts": passage.counts,
    }
