"""Reading what the caller hands to `remember`: strings, messages, lists of them. Pure.

Everything is checked here, before anything is written; each refusal says what would be accepted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, get_args
from uuid import UUID

from uuid_utils import uuid7

from mnemic.errors import InputError
from mnemic.inputs import kind_of, read_json, read_name, read_tags, read_text, read_time, shown
from mnemic.records import Message, Role

MAX_MESSAGES = 100_000

MessageInput = Mapping[str, Any]
RememberInput = str | MessageInput | Message | Iterable[str | MessageInput | Message]

_ROLES = get_args(Role)
_OURS = {
    "role",
    "content",
    "session",
    "name",
    "id",
    "said_at",
    "at",
    "metadata",
    "tags",
    "expires_at",
    "state",
}
# What OpenAI-style messages carry besides; kept as it is.
_CARRIED = {"tool_calls", "tool_call_id", "function_call", "refusal", "annotations", "audio"}
_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}


def read_input(
    given: RememberInput, session: str | None, now: datetime
) -> list[tuple[Message, bool]]:
    """Read anything that `remember` takes into messages; each with whether the caller gave its id."""
    place = None if session is None else read_name(session, "session")
    items: Iterable[Any]
    if isinstance(given, str | Mapping | Message):
        items = (given,)
    elif isinstance(given, Iterable) and not isinstance(given, bytes | bytearray | set | frozenset):
        items = given
    else:
        raise InputError(
            "remember takes a string, a message such as"
            ' {"role": "user", "content": "..."}, or a list of them in the order in which they were'
            f" said, not {kind_of(given)}"
        )
    read: list[tuple[Message, bool]] = []
    for number, item in enumerate(items):
        if number >= MAX_MESSAGES:
            raise InputError(f"at most {MAX_MESSAGES:,} messages in one call; split the list")
        try:
            read.append(_read_message(item, place, now))
        except InputError as error:
            single = isinstance(given, str | Mapping | Message)
            raise InputError(f"{'' if single else f'message {number}: '}{error}") from None
    return read


def digest_of(message: Message) -> bytes:
    """Tell same from other content: role, name, text, and what else was carried."""
    parts = (message.role, message.name, message.content, dict(message.extra))
    packed = json.dumps(parts, ensure_ascii=False, sort_keys=True).encode()
    return hashlib.blake2b(packed, digest_size=16).digest()


def _read_message(item: Any, session: str | None, now: datetime) -> tuple[Message, bool]:
    if isinstance(item, str):
        item = {"role": "user", "content": item}
    elif isinstance(item, Message):
        item = _as_mapping(item)
    elif not isinstance(item, Mapping):
        raise InputError(f"a message is a string or a mapping, not {kind_of(item)}")
    unknown = item.keys() - _OURS - _CARRIED
    if unknown:
        raise InputError(
            f"unknown field {min(map(shown, unknown))}; a message has"
            f" {', '.join(sorted(_OURS))}; put anything else into metadata"
        )
    role = item.get("role", "user")
    known = isinstance(role, str) and role in _ROLES
    if not known:
        raise InputError(f"the role must be one of {', '.join(_ROLES)}, not {shown(role)}")
    extra = {key: item[key] for key in _CARRIED if item.get(key) is not None}
    content, parts = _read_content(item.get("content"))
    if parts:
        extra["parts"] = parts
    if not content.strip() and not extra:
        raise InputError("the content is empty or blank; there is nothing to remember")
    state = item.get("state", "complete")
    if state not in ("complete", "interrupted"):
        raise InputError(f"the state must be complete or interrupted, not {shown(state)}")
    given_id = item.get("id")
    if item.get("session") is not None:
        session = read_name(item["session"], "session")
    said_at = item.get("at") if item.get("said_at") is None else item["said_at"]
    expires_at = item.get("expires_at")
    message = Message(
        id=str(UUID(bytes=uuid7().bytes)) if given_id is None else read_name(given_id, "id"),
        session=session,
        role=role,
        content=content,
        said_at=now if said_at is None else read_time(said_at, "said_at"),
        recorded_at=now,
        name=None if item.get("name") is None else read_name(item["name"], "name"),
        expires_at=None if expires_at is None else read_time(expires_at, "expires_at"),
        tags=read_tags(item.get("tags")),
        metadata=read_json(item.get("metadata"), "metadata"),
        extra=read_json(extra, "what the message carries"),
        state=state,
    )
    return message, given_id is not None


def content_of(message: Message) -> str | list[Any]:
    """The content as `remember` takes it: text, or parts where some of it isn't text."""
    parts = message.extra.get("parts")
    said = [{"type": "text", "text": message.content}] if message.content else []
    return [*said, *parts] if parts else message.content


def _as_mapping(message: Message) -> dict[str, Any]:
    extra: Any = message.extra
    if not isinstance(extra, Mapping) or not isinstance(extra.get("parts", []), list):
        raise InputError("a Message's extra is a mapping, and its parts a list")
    if not isinstance(message.content, str):
        raise InputError(f"a Message's content is a string, not {kind_of(message.content)}")
    return {
        "role": message.role,
        "content": content_of(message),
        "session": message.session,
        "name": message.name,
        "id": message.id,
        "said_at": message.said_at,
        "expires_at": message.expires_at,
        "tags": message.tags,
        "metadata": message.metadata,
        "state": "interrupted" if message.state == "streaming" else message.state,
        **{key: value for key, value in extra.items() if key in _CARRIED},
    }


def _read_content(content: Any) -> tuple[str, list[Any]]:
    """The text, and the parts that aren't text (images, files), which are kept as they are."""
    if content is None:
        return "", []
    if isinstance(content, str):
        return read_text(content, "content"), []
    if not isinstance(content, Sequence) or isinstance(content, bytes | bytearray):
        raise InputError(f"content is a string or a list of parts, not {kind_of(content)}")
    texts: list[str] = []
    others: list[Any] = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
            raise InputError('a content part is a mapping such as {"type": "text", "text": "..."}')
        elif part["type"] in _TEXT_PARTS:
            texts.append(part.get(_TEXT_PARTS[part["type"]]))  # type: ignore[arg-type]
        else:
            others.append(dict(part))
    if not all(isinstance(text, str) for text in texts):
        raise InputError('a text part must have its text under "text"')
    return read_text("\n".join(texts), "content"), others
