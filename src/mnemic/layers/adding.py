"""Adding a message to the session that a layer stands on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnemic.errors import InputError
from mnemic.inputs import kind_of, shown
from mnemic.layers.parts import Handle
from mnemic.records import Message, Receipt


def add(memory: Handle, session: str, message: str | Mapping[str, Any] | Message) -> Receipt:
    """Remember one message in a session; nothing of the session is read."""
    named = message.session if isinstance(message, Message) else None
    if isinstance(message, Mapping):
        named = message.get("session")
    elif not isinstance(message, str | Message):
        raise InputError(f"a message is a string or a mapping, not {kind_of(message)}")
    if named is not None and named != session:
        raise InputError(
            f"the message is of session {shown(named)}, this memory of {shown(session)};"
            " leave its session out"
        )
    return memory.remember(message, session=session)
