"""Labelled conversations to measure on: one form for all, a reader for each format. Pure but for reading.

A new format is one function here. Nothing tells a recall which format its store came from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

from mnemic.errors import InputError
from mnemic.inputs import read_time, shown
from mnemic.transfer.files import iter_json, open_text
from mnemic.transfer.formats import FORMATS as TRANSFER

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """A question, when it was asked, and the ids of the messages that hold its answer.

    `evidence` is empty where nobody said it, or where the data doesn't tell where; only a question that is
    `answerable` and has evidence counts for recall. `spans` are quotations from the evidence that bear
    the answer; `superseded` the ids of messages that said it before it changed.
    """

    id: str
    text: str
    at: datetime | None
    answer: str
    category: str
    evidence: tuple[str, ...] = ()
    sessions: tuple[str, ...] = ()
    answerable: bool = True
    spans: tuple[str, ...] = ()
    superseded: tuple[str, ...] = ()

    @property
    def counts(self) -> bool:
        """Whether it counts for recall."""
        return self.answerable and bool(self.evidence)


@dataclass(frozen=True, slots=True)
class Conversation:
    """What one user's memory is filled with, as `remember` takes it, and what is asked of it."""

    name: str
    messages: tuple[Message, ...]
    questions: tuple[Question, ...]
    kind: str = "people"  # "people", or "assistant" where one of the two is
    facts: tuple[Mapping[str, Any], ...] = field(default=())

    def text_of(self, message_id: str) -> str:
        """The words of a message."""
        return self._texts()[message_id]

    def _texts(self) -> dict[str, str]:
        return {str(m["id"]): str(m["content"]) for m in self.messages}


Reader = Callable[[Path], Iterator[Conversation]]


def read_data(path: Path, form: str) -> Iterator[Conversation]:
    """Read labelled conversations in one of `FORMATS`; raises `InputError` naming the place."""
    if form not in FORMATS:
        raise InputError(f"unknown format {shown(form)}; known are {', '.join(FORMATS)}")
    if not path.exists():
        raise InputError(f"there is no {shown(str(path))}")
    return FORMATS[form](path)


def shipped() -> Iterator[Conversation]:
    """Our own labelled conversations, which come with the package."""
    folder = resources.files("mnemic.demo")
    names = sorted(item.name for item in folder.iterdir() if item.name.endswith(".json"))
    for name in names:
        value = json.loads(folder.joinpath(name).read_text("utf-8"))
        yield _labelled(value, name.removesuffix(".json"))


def _labelled(value: Mapping[str, Any], name: str) -> Conversation:
    """The form of our own conversations: sessions of messages, and questions."""
    messages = tuple(
        {**message, "session": session["id"]}
        for session in value["sessions"]
        for message in session["messages"]
    )
    questions = tuple(_question(item) for item in value.get("questions", ()))
    return _made(name, messages, questions)


def _question(item: Mapping[str, Any]) -> Question:
    evidence = tuple(item.get("evidence") or ())
    return Question(
        id=str(item["id"]),
        text=item["question"],
        at=read_time(item["at"], "at") if item.get("at") else None,
        answer=str(item.get("answer") or ""),
        category=str(item.get("category") or "question"),
        evidence=evidence,
        answerable=bool(evidence),
        spans=tuple(item.get("spans") or ()),
        superseded=tuple(item.get("superseded") or ()),
    )


def _made(name: str, messages: Sequence[Message], questions: Sequence[Question]) -> Conversation:
    kind = "assistant" if any(m["role"] == "assistant" for m in messages) else "people"
    return Conversation(name, tuple(messages), tuple(questions), kind)


def _jsonl(path: Path) -> Iterator[Conversation]:
    """Lines of one conversation each: `user`, `sessions` of messages, `questions`; or such a JSON file."""
    with open_text(path) as handle:
        for number, value in iter_json(handle, path.name):
            try:
                yield _labelled(value, str(value.get("user") or f"{path.stem}-{number}"))
            except (KeyError, TypeError, AttributeError) as error:
                raise InputError(
                    f"{path.name}, element {number} is no labelled conversation: {error!r} is missing or"
                    " of another kind; docs/evaluation.md shows the form"
                ) from None


_EVIDENCE = re.compile(r"D\d+:\d+")
_CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}


def _locomo(path: Path) -> Iterator[Conversation]:
    """LoCoMo: its evidence ids may be joined or name what isn't there; asked after the last message."""
    with open_text(path) as handle:
        for number, value in iter_json(handle, path.name):
            items = list(TRANSFER["locomo"](value, number, f"{path.name}, element {number}"))
            messages = [item.fields for item in items]
            there = {message["id"] for message in messages}
            last = max(message["said_at"] for message in messages)
            questions = []
            for place, qa in enumerate(value["qa"], 1):
                named = {e for text in qa.get("evidence") or () for e in _EVIDENCE.findall(text)}
                questions.append(
                    Question(
                        id=f"q{place}",
                        text=qa["question"],
                        at=last + timedelta(days=1),
                        answer=str(qa.get("answer") or ""),
                        category=_CATEGORIES.get(qa["category"], str(qa["category"])),
                        evidence=tuple(sorted(named & there)),
                        answerable=qa["category"] != 5,
                    )
                )
            yield _made(str(value.get("sample_id") or number), messages, questions)


_LONGMEMEVAL_TIME = "%Y/%m/%d (%a) %H:%M"


def _longmemeval(path: Path) -> Iterator[Conversation]:
    """LongMemEval: each question with a haystack of its own; which session holds evidence stays unsaid."""
    with open_text(path) as handle:
        for number, value in iter_json(handle, path.name):
            neutral, marked, named = _without_labels(value)
            where = f"{path.name}, element {number}"
            messages = [item.fields for item in TRANSFER["longmemeval"](neutral, number, where)]
            there = {message["id"] for message in messages}
            asked = datetime.strptime(value["question_date"], _LONGMEMEVAL_TIME)
            question = Question(
                id=str(value["question_id"]),
                text=value["question"],
                # Some evidence is dated later on the very day.
                at=asked.replace(hour=23, minute=59, tzinfo=UTC),
                answer=str(value["answer"]),
                category=value["question_type"],
                evidence=tuple(e for e in marked if e in there),
                sessions=tuple(named),
                answerable=not str(value["question_id"]).endswith("_abs"),
            )
            yield _made(str(value["question_id"]), messages, [question])


def _without_labels(value: Mapping[str, Any]) -> tuple[dict[str, Any], list[str], list[str]]:
    """The haystack with sessions numbered (their ids tell which hold evidence), and both labels."""
    answers = set(value["answer_session_ids"])
    marked: list[str] = []
    named: list[str] = []
    ids = []
    for number, (given, turns) in enumerate(
        zip(value["haystack_session_ids"], value["haystack_sessions"], strict=True), 1
    ):
        session = f"h{number:03d}"
        ids.append(session)
        if given in answers:
            named.append(session)
        marked += [f"{session}:{n}" for n, turn in enumerate(turns, 1) if turn.get("has_answer")]
    return {**value, "haystack_session_ids": ids}, marked, named


_TAIL = re.compile(r"\s*->->\s*[\d,\s]*\Z")


def _beam(path: Path) -> Iterator[Conversation]:
    """BEAM: a folder of numbered chats, or one of them; a batch of turns is a session."""
    folders = [path] if (path / "chat.json").exists() else sorted(path.iterdir(), key=_number)
    for folder in folders:
        chat = json.loads((folder / "chat.json").read_text("utf-8"))
        probes = folder / "probing_questions" / "probing_questions.json"
        asked = json.loads(probes.read_text("utf-8"))
        messages = list(_beam_messages(chat))
        last = max(message["said_at"] for message in messages)
        there = {message["id"] for message in messages}
        questions = tuple(
            _beam_question(item, f"{ability}-{n}", ability, there, last)
            for ability, items in asked.items()
            for n, item in enumerate(items, 1)
        )
        yield _made(f"beam-{folder.name}", messages, questions)


def _number(folder: Path) -> tuple[int, str]:
    return (int(folder.name) if folder.name.isdigit() else 1 << 30, folder.name)


def _beam_messages(chat: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    said_at = datetime(2024, 1, 1, tzinfo=UTC)
    for batch in chat:
        for turn in (turn for turns in batch["turns"] for turn in turns):
            anchor = turn.get("time_anchor")
            if anchor:
                day = datetime.strptime(anchor, "%B-%d-%Y").replace(tzinfo=UTC)
                said_at = max(said_at, day) if said_at.year == day.year else day
            said_at += timedelta(minutes=1)
            content = _TAIL.sub("", turn["content"])
            if content.strip():
                yield {
                    "id": f"m{turn['id']}",
                    "role": turn["role"],
                    "content": content,
                    "session": f"batch-{batch['batch_number']}",
                    "said_at": said_at,
                }


def _beam_question(
    item: Mapping[str, Any], name: str, ability: str, there: set[str], last: datetime
) -> Question:
    given = item.get("source_chat_ids") or []
    sides = given if isinstance(given, dict) else {"": given}
    ids = {key: _flat(side) for key, side in sides.items()}
    answer = item.get("answer") or item.get("ideal_response") or item.get("ideal_answer") or ""
    evidence = dict.fromkeys(f"m{i}" for side in ids.values() for i in side)
    return Question(
        id=name,
        text=item["question"],
        at=last + timedelta(days=1),
        answer=str(answer),
        category=ability,
        evidence=tuple(e for e in evidence if e in there),
        answerable=ability != "abstention",
        superseded=tuple(f"m{i}" for i in ids.get("original_info", ()) if f"m{i}" in there),
    )


def _flat(value: Any) -> list[int]:
    """Ids in lists of any depth.

    >>> _flat([1, [2, [3]]])
    [1, 2, 3]
    """
    if isinstance(value, list):
        return [number for item in value for number in _flat(item)]
    return [int(value)]


FORMATS: dict[str, Reader] = {
    "jsonl": _jsonl,
    "locomo": _locomo,
    "longmemeval": _longmemeval,
    "beam": _beam,
}


def sessions_of(conversation: Conversation) -> dict[str, str]:
    """The session of each message id."""
    return {str(m["id"]): str(m.get("session") or "") for m in conversation.messages}


def by_session(messages: Sequence[Message]) -> list[tuple[str, list[Message]]]:
    """Messages that follow each other in one session, together."""
    return [(s, list(some)) for s, some in groupby(messages, lambda m: str(m.get("session") or ""))]
