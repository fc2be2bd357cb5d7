"""What others export, as items to import: whose, in which session, which message. Pure but for reading.

A new format is one function here. Ids are made from a message's place where the format has none, so
that an import that broke off can be run again and skips what is there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from mnemic.errors import InputError
from mnemic.inputs import shown
from mnemic.transfer.files import iter_json, open_text

ItemKind = Literal["message", "fact", "procedure", "settings"]
_KINDS = ("mnemic", "message", "fact", "procedure")


@dataclass(frozen=True, slots=True)
class Item:
    """One message, fact or instruction to import, or settings, as `fields`, by its `kind`.

    `user` is None where the file doesn't say whose it is. `memories` are what our own export says stands
    on a message; None lets them be made.
    """

    where: str
    user: str | None
    fields: Mapping[str, Any]
    memories: list[Mapping[str, Any]] | None = None
    recorded_at: str | None = None
    state: str | None = None
    kind: ItemKind = "message"


@dataclass(slots=True)
class _Seen:
    """Numbers the sessions that a file names twice."""

    times: dict[str, int] = field(default_factory=dict)

    def name(self, session: str) -> str:
        number = self.times[session] = self.times.get(session, 0) + 1
        return session if number == 1 else f"{session}#{number}"


def read_items(path: Path, form: str) -> Iterator[Item]:
    """Read a file in one of `FORMATS`, a piece at a time."""
    if not isinstance(form, str) or form not in FORMATS:
        raise InputError(f"unknown format {shown(form)}; known are {', '.join(FORMATS)}")
    with open_text(path) as handle:
        for number, value in iter_json(handle, path.name):
            where = f"{path.name}, element {number}"
            yield from FORMATS[form](value, number, where)


# What a line says of a message beside the message.
_AROUND = {"type", "memories", "recorded_at", "user", "state"}


def _jsonl(value: Any, number: int, where: str) -> Iterator[Item]:
    """Our own export, or lines of plain messages (`role`, `content`, and the other fields) or facts."""
    line = _mapping(value, where)
    kind = line.get("type", "message")
    if kind == "mnemic":
        if line.get("version") != 1:
            raise InputError(
                f"{where}: written by a newer Mnemic; upgrade with pip install -U mnemic"
            )
        if line.get("settings"):
            settings = _mapping(line["settings"], f"{where}: settings")
            yield Item(where, None, settings, kind="settings")
        return
    if kind not in _KINDS:
        raise InputError(f"{where}: unknown line type {shown(kind)}; known are {', '.join(_KINDS)}")
    if kind != "message":
        fields = {key: line[key] for key in line.keys() - {"type", "user"}}
        yield Item(where, line.get("user"), fields, kind=kind)
        return
    message = {key: line[key] for key in line.keys() - _AROUND}
    memories = line.get("memories")
    if memories is not None and not (
        isinstance(memories, list) and all(isinstance(item, dict) for item in memories)
    ):
        raise InputError(f"{where}: memories must be a list of mappings")
    state = line.get("state")
    yield Item(where, line.get("user"), message, memories, line.get("recorded_at"), state)


def _openai(value: Any, number: int, where: str) -> Iterator[Item]:
    """Chat messages as OpenAI's API takes them: a conversation `{"messages": [...]}`, or bare messages."""
    line = _mapping(value, where)
    if "messages" not in line:
        yield Item(where, None, {"id": f"m{number}", **line})
        return
    session = str(line.get("id") or f"c{number}")
    for turn, message in enumerate(_list(line["messages"], f"{where}: messages"), 1):
        place = f"{where}, message {turn}"
        said = {"id": f"{session}:{turn}", **_mapping(message, place), "session": session}
        if said.get("content") or said.get("tool_calls"):
            yield Item(place, None, said)


_LOCOMO_SESSION = re.compile(r"session_(\d{1,9})", re.ASCII)
_LOCOMO_TIME = "%I:%M %p on %d %B, %Y"


def _locomo(value: Any, number: int, where: str) -> Iterator[Item]:
    """LoCoMo: one user a conversation, both speakers by name, photo captions as text; times as UTC."""
    sample = _mapping(value, where)
    user = str(sample.get("sample_id") or f"locomo-{number}")
    talk = _mapping(sample.get("conversation"), f"{where}: conversation")
    sessions = sorted(
        (int(found.group(1)), key) for key in talk if (found := _LOCOMO_SESSION.fullmatch(key))
    )
    for _, key in sessions:
        said_at = _parse(str(talk.get(f"{key}_date_time", "")), _LOCOMO_TIME, where)
        for given in _list(talk[key], f"{where}: {key}"):
            turn = _mapping(given, f"{where}: a turn of {key}")
            place = f"{where}, {turn.get('dia_id')}"
            caption = turn.get("blip_caption")
            text = str(turn.get("text") or "")
            content = f"{text} [photo: {caption}]".strip() if caption else text
            if not content.strip():
                continue
            message = {
                "role": "user",
                "name": turn.get("speaker"),
                "content": content,
                "id": turn.get("dia_id"),
                "session": key,
                "said_at": said_at,
            }
            yield Item(place, user, message)


_LONGMEMEVAL_TIME = "%Y/%m/%d (%a) %H:%M"


def _longmemeval(value: Any, number: int, where: str) -> Iterator[Item]:
    """LongMemEval: one user a question, with its haystack; ids are `session:turn`; times as UTC."""
    question = _mapping(value, where)
    user = str(question.get("question_id") or f"longmemeval-{number}")
    sessions = _list(question.get("haystack_sessions"), f"{where}: haystack_sessions")
    ids = _list(question.get("haystack_session_ids"), f"{where}: haystack_session_ids")
    dates = _list(question.get("haystack_dates"), f"{where}: haystack_dates")
    if not len(sessions) == len(ids) == len(dates):
        raise InputError(f"{where}: sessions, their ids and their dates differ in number")
    seen = _Seen()
    for turns, session_id, date in zip(sessions, ids, dates, strict=True):
        session = seen.name(str(session_id))
        said_at = _parse(str(date), _LONGMEMEVAL_TIME, where)
        for turn, given in enumerate(_list(turns, f"{where}: {session}"), 1):
            place = f"{where}, {session}:{turn}"
            message = _mapping(given, place)
            if not str(message.get("content") or "").strip():
                continue
            said = {
                "role": message.get("role"),
                "content": message["content"],
                "id": f"{session}:{turn}",
                "session": session,
                "said_at": said_at,
            }
            yield Item(place, user, said)


FORMATS: dict[str, Callable[[Any, int, str], Iterator[Item]]] = {
    "jsonl": _jsonl,
    "openai": _openai,
    "locomo": _locomo,
    "longmemeval": _longmemeval,
}


def _parse(text: str, form: str, where: str) -> datetime:
    try:
        return datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        raise InputError(f"{where}: {shown(text)} is no time such as this format has") from None


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where} is not a mapping; is it another format?")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{where} is not a list; is it another format?")
    return value
