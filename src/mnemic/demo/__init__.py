"""The conversation that ships with Mnemic, with its labelled questions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """A question with its answer and the ids of the messages that hold it (none: unanswerable)."""

    id: str
    question: str
    at: str
    answer: str
    evidence: tuple[str, ...]
    category: str
    demo: bool


@dataclass(frozen=True, slots=True)
class Conversation:
    """A labelled conversation; `sessions` maps a session's id to its messages."""

    title: str
    user: str
    sessions: dict[str, list[dict[str, Any]]]
    questions: tuple[LabelledQuestion, ...]


def load_conversation() -> Conversation:
    """Read the conversation from the package."""
    text = resources.files("mnemic.demo").joinpath("conversation.json").read_text("utf-8")
    raw = json.loads(text)
    return Conversation(
        title=raw["title"],
        user=raw["user"],
        sessions={session["id"]: session["messages"] for session in raw["sessions"]},
        questions=tuple(
            LabelledQuestion(
                id=item["id"],
                question=item["question"],
                at=item["at"],
                answer=item["answer"],
                evidence=tuple(item["evidence"]),
                category=item["category"],
                demo=bool(item.get("demo")),
            )
            for item in raw["questions"]
        ),
    )
