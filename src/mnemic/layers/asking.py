"""A question to a part of a scope's memories: what narrows it, checked as `recall` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict

from mnemic.errors import InputError
from mnemic.inputs import shown
from mnemic.layers.parts import Parts
from mnemic.records import Recall, Scope
from mnemic.retrieval.ask import read_question


class Narrowing(TypedDict, total=False):
    """What narrows a question to either kind of memory, as `recall` has it."""

    at: datetime | str | None
    budget: int | None
    since: datetime | str | None
    until: datetime | str | None
    where: Mapping[str, Any] | None
    tags: Sequence[str]
    diversity: float
    min_relevance: float | None


_USUAL: Mapping[str, Any] = {
    "at": None,
    "budget": None,
    "since": None,
    "until": None,
    "in_session": None,
    "where": None,
    "tags": (),
    "diversity": 0.0,
    "min_relevance": None,
}


def ask(
    parts: Parts, scope: Scope, question: str, narrowed: Mapping[str, Any], **by: Any
) -> Recall:
    """Find the memories that answer a question, best first; `by` is what the caller narrows by itself."""
    unknown = narrowed.keys() - Narrowing.__annotations__.keys()
    if unknown:
        known = ", ".join(Narrowing.__annotations__)
        raise InputError(f"unknown {min(map(shown, unknown))}; a question is narrowed by {known}")
    asked = read_question(question, {**_USUAL, **narrowed, **by})
    reader = parts.reader()
    return Recall(question, (), tokens=0) if reader is None else reader.recall(scope, asked)
