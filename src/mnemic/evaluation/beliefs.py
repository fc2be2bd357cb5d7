"""PrecisionMemBench: beliefs kept as facts, cases that say what may come back, sessions that drift.

A belief is a fact whose text is its name, its aliases and its content, with its scopes as metadata; what
was superseded is no current fact, so it isn't kept. A case asks within its scopes. Pinned beliefs are
handed over by other means there (a profile), so only the others count, as in its `relevantBeliefs`.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from mnemic.memory import Memory, ScopedMemory
from mnemic.models.embedder import Embedder

Row = dict[str, Any]
LIMIT = 20
UNIVERSAL = "user:universal"


def ask(data: str, folder: Path, embedder: Embedder) -> list[Row]:
    """Ask all cases: a row for each that says what is relevant, and for each turn of a session."""
    beliefs = json.loads((folder / "beliefs.seed.json").read_text("utf-8"))
    cases = json.loads((folder / "retrieval.cases.json").read_text("utf-8"))
    sessions = json.loads((folder / "session-retrieval.cases.json").read_text("utf-8"))
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place,
        Memory(Path(place) / "beliefs.db", embedder=embedder) as memory,
    ):
        names = _keep(memory, beliefs)
        rows = [_case(memory, case, names) for case in cases]
        for session in sessions:
            rows += [_case(memory, {**turn, "caseId": session["caseId"]}, names)
                     for turn in session["turns"]]  # fmt: skip
    return [{"type": "belief", "data": data, "conversation": data, **row} for row in rows if row]


def _keep(memory: Memory, beliefs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Keep what is current and not pinned; returns the belief of each memory id."""
    names: dict[str, str] = {}
    for belief in beliefs:
        if belief.get("pinned") or belief.get("superseded_by"):
            continue
        if belief.get("epistemic_status") != "active":
            continue
        called = ", ".join([belief["canonical_name"].replace("_", " "), *belief.get("aliases", ())])
        handle = memory.user(belief["user_id"])
        fact = handle.facts.remember(
            f"{called}: {belief['content']}", metadata={"scopes": list(belief.get("scope", ()))}
        )
        names[fact.id] = belief["_id"]
    return names


def _case(memory: Memory, case: Mapping[str, Any], names: Mapping[str, str]) -> Row:
    wanted = case.get("expect", {}).get("relevantBeliefs", {})
    should = wanted.get("shouldOnlyInclude", wanted.get("mustInclude"))
    question = case.get("query") or case.get("userMessage") or ""
    if should is None or not question.strip():
        return {}
    handle = memory.user(case.get("userId") or case.get("user_id") or "test-user")
    start = perf_counter()
    found = _found(handle, question, case.get("scope") or (), names)
    right = set(should)
    row: Row = {
        "id": case["caseId"],
        "session": "turnIndex" in case,
        "question": question[:200],
        "found": found,
        "wanted": sorted(right),
        "ms": (perf_counter() - start) * 1000,
        "handed": len(found),
    }
    if right:
        row["precision"] = len(right & set(found)) / len(found) if found else 0.0
        row["recall"] = len(right & set(found)) / len(right)
    if "turnIndex" in case:
        row["drift"] = len(set(found) - right) / len(found) if found else 0.0
    return row


def _found(
    handle: ScopedMemory, question: str, scopes: Sequence[str], names: Mapping[str, str]
) -> list[str]:
    allowed = {*scopes, UNIVERSAL}
    found = handle.facts.recall(question, limit=LIMIT)
    return [
        names[hit.memory.id]
        for hit in found
        if not scopes or allowed & set(hit.memory.metadata.get("scopes", ()))
    ]
