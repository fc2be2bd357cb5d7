"""FactConsolidation (MemoryAgentBench): of numbered facts a later one wins, and should rank first.

Each numbered fact is a message, a minute after the one before. The newest is the last fact that holds the
answer and words of the question; a stale one says the same of the same with another value. Of the questions
only those of one hop are asked, and of these those whose facts can be told so.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mnemic.evaluation.asking import fill, ids_of
from mnemic.memory import Memory, ScopedMemory
from mnemic.models.embedder import Embedder
from mnemic.models.terms import iter_terms

Row = dict[str, Any]
LIMIT = 20
MOST_FACTS = 2_000  # the larger rows hold the same facts among more
_FACT = re.compile(r"^\s*(\d+)\.\s+(.+?)\s*$", re.MULTILINE)
_BEGIN = datetime(2025, 1, 1, tzinfo=UTC)


def ask(data: str, path: Path, embedder: Embedder) -> list[Row]:
    """Ask the questions of one hop; a row each."""
    rows: list[Row] = []
    for number, item in enumerate(json.loads(path.read_text("utf-8")), 1):
        name = str(item.get("metadata", {}).get("source", number))
        facts = [text for _, text in _FACT.findall(item["context"])]
        if "_sh_" not in name or not facts or len(facts) > MOST_FACTS:
            continue
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place,
            Memory(Path(place) / "facts.db", embedder=embedder) as memory,
        ):
            handle = memory.user("facts")
            fill(handle, [_message(at, fact) for at, fact in enumerate(facts)])
            pairs = zip(item["questions"], item["answers"], strict=True)
            asked = [_row(handle, facts, q, a) for q, a in pairs]
        rows += [{"type": "conflict", "data": data, "conversation": name, **r} for r in asked if r]
    return rows


def _message(at: int, fact: str) -> dict[str, Any]:
    said = _BEGIN + timedelta(minutes=at)
    return {"id": f"f{at}", "role": "user", "content": fact, "session": "facts", "said_at": said}


def _row(
    handle: ScopedMemory, facts: Sequence[str], question: str, answers: Any
) -> Mapping[str, Any]:
    pair = conflict(facts, question, [str(one) for one in answers])
    if pair is None:
        return {}
    newest, stale = pair
    found = ids_of(hit.memory for hit in handle.recall(question, limit=LIMIT, min_relevance=0))
    place = found.index(f"f{newest}") if f"f{newest}" in found else LIMIT
    before = [one for one in stale if f"f{one}" in found[:place]]
    return {
        "question": question,
        "newer_first": float(place < LIMIT and not before),
        "by_recency": float(newest > max(stale)),
        "found": [facts[int(one[1:])] for one in found[:3]],
    }


def conflict(
    facts: Sequence[str], question: str, answers: Sequence[str]
) -> tuple[int, list[int]] | None:
    """The newest fact that answers, and the stale ones that differ from it in the value alone."""
    asked = set(iter_terms(question))
    holding = [
        at for at, fact in enumerate(facts)
        if any(answer.casefold() in fact.casefold() for answer in answers)
        and asked & set(iter_terms(fact))
    ]  # fmt: skip
    if not holding:
        return None
    newest = max(holding, key=lambda at: (len(asked & set(iter_terms(facts[at]))), at))
    frame = _frame(facts[newest], answers)
    if not frame[0]:
        return None
    stale = [
        at for at, fact in enumerate(facts)
        if at != newest and fact.startswith(frame[0]) and fact.endswith(frame[1])
        and not any(answer.casefold() in fact.casefold() for answer in answers)
    ]  # fmt: skip
    return (newest, stale) if stale else None


def _frame(fact: str, answers: Sequence[str]) -> tuple[str, str]:
    """What stands before and after the answer in a fact.

    >>> _frame("The capital of Peru is Lima.", ["lima"])
    ('The capital of Peru is ', '.')
    """
    for answer in answers:
        at = fact.casefold().rfind(answer.casefold())
        if at > 0:
            return fact[:at], fact[at + len(answer) :]
    return "", ""
