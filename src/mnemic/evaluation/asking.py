"""Asking one conversation: a store filled by `remember`, each question by ours and by the baselines.

What comes back is plain rows (dicts of figures) that can be written down as JSON and added up later.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from mnemic.evaluation import measures
from mnemic.evaluation.datasets import Conversation, Message, Question, sessions_of
from mnemic.evaluation.reading import Reading
from mnemic.memory import Memory, ScopedMemory
from mnemic.models.embedder import Embedder
from mnemic.models.terms import question_terms
from mnemic.models.tokens import count_tokens
from mnemic.records import Hit, MemoryRecord, Recall
from mnemic.retrieval.fuse import best_rows
from mnemic.retrieval.index import Index
from mnemic.retrieval.postings import bm25

OURS = "mnemic"
METHODS = (OURS, "BM25", "embedder", "recency")
KS = (5, 10, 20)
BUDGETS = (250, 500, 720, 1000, 2000)
READ_AT = 1000  # tokens of the context that a reader model is handed
TOP = 10  # what the cut is measured against
DEEP = 60  # hits asked for, so that 20 distinct messages are among them
FILL = 400  # lines of a baseline, more than any budget here holds
ALIKE = 0.95  # cosine from which a memory repeats another
BATCH = 256
SHOWN = 180  # characters of a text in a report

_NAMED = re.compile(r"\d[\d.,:/-]*|\b[A-Z]\w+")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Work:
    """One conversation to be asked, with questions that belong to others; `read`: a reader's, by place."""

    data: str
    talk: Conversation
    strangers: tuple[Question, ...] = ()
    contexts: bool = True
    read: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class _Open:
    """A filled store."""

    work: Work
    handle: ScopedMemory
    index: Index
    records: tuple[MemoryRecord, ...]  # by row
    vector_of: Callable[[str], Any]
    sessions: dict[str, str]
    reading: Reading | None


def ask(work: Work, embedder: Embedder, reading: Reading | None = None) -> list[Row]:
    """Fill a store with a conversation and ask all: a row for each question, and one for the store."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        Memory(Path(folder) / "eval.db", embedder=embedder) as memory,
    ):
        handle = memory.user("asked")
        start = perf_counter()
        fill(handle, work.talk.messages)
        seconds = perf_counter() - start
        opened = _look(work, handle, embedder, reading)
        rows = [_row(opened, at) for at in range(len(work.talk.questions))]
        rows += [_stranger(opened, question) for question in work.strangers]
        return [*rows, _store(opened, seconds)]


def fill(handle: ScopedMemory, messages: Sequence[Message]) -> None:
    """Remember a conversation."""
    for at in range(0, len(messages), BATCH):
        handle.remember([dict(message) for message in messages[at : at + BATCH]])


def _look(work: Work, handle: ScopedMemory, embedder: Embedder, reading: Reading | None) -> _Open:
    core = handle._core
    reader = core.reader()
    if reader is None:
        raise ValueError(f"{work.talk.name} holds no message")
    index = reader.indexes.current(handle.scope, reader.known)
    keys = [index.id_of(row) for row in range(len(index))]
    found = core.store.find_records(handle.scope, keys)
    return _Open(
        work,
        handle,
        index,
        tuple(found[key] for key in keys),
        lambda text: embedder.embed([text])[0],
        sessions_of(work.talk),
        reading,
    )


def _row(opened: _Open, at: int) -> Row:
    question = opened.work.talk.questions[at]
    row: Row = {
        "type": "question",
        "data": opened.work.data,
        "conversation": opened.work.talk.name,
        "kind": opened.work.talk.kind,
        "id": question.id,
        "category": question.category,
        "question": question.text,
        "answer": question.answer,
        "counts": question.counts,
        "answerable": question.answerable,
    }
    opened.vector_of(question.text)  # the embedding is not what is timed
    start = perf_counter()
    deep = opened.handle.recall(question.text, at=question.at, limit=DEEP, min_relevance=0)
    row["ms"] = (perf_counter() - start) * 1000
    row["beyond_ms"] = sum(ms for step, ms in deep.timings_ms.items() if step != "embed")
    cut = opened.handle.recall(question.text, at=question.at, limit=TOP)
    row["top"] = max((hit.relevance for hit in deep), default=0.0)
    row["cut_hits"] = len(cut)
    row["cut_tokens"] = count_tokens(cut.text)
    if question.counts:
        row |= _ranking(opened, question, deep, cut)
        if opened.work.contexts:
            row |= _contexts(opened, question, at in opened.work.read)
    return row


def _ranking(opened: _Open, question: Question, deep: Recall, cut: Recall) -> Row:
    ranked = {OURS: ids_of(hit.memory for hit in deep), **_baselines(opened, question)}
    row: Row = {"evidence": len(question.evidence)}
    for name, ids in ranked.items():
        row[name] = _places(opened, question, ids)
    ten, kept = ids_of(hit.memory for hit in deep[:TOP]), ids_of(hit.memory for hit in cut)
    wanted = set(question.evidence)
    row["ten_recall"] = len(wanted & set(ten)) / len(wanted)
    row["cut_recall"] = len(wanted & set(kept)) / len(wanted)
    row["ten_precision"] = len(wanted & set(ten)) / max(1, len(ten))
    row["cut_precision"] = len(wanted & set(kept)) / len(kept) if kept else 0.0
    if question.superseded:
        row["newer_first"] = _newer_first(question, ranked[OURS])
    if row[OURS]["recall@10"] < 1:
        row["found"] = [_shown(hit) for hit in deep[:5]]
        row["missed"] = [
            opened.work.talk.text_of(one)[:SHOWN] for one in question.evidence if one not in ten
        ][:3]
    return row


def _shown(hit: Hit) -> str:
    return f"{hit.relevance:.2f}  {hit.memory.render()[:SHOWN]}"


def _places(opened: _Open, question: Question, ids: Sequence[str]) -> Row:
    """Figures of one ranking: of messages, and of the sessions in the order in which they come."""
    sessions = list(dict.fromkeys(opened.sessions[one] for one in ids))
    wanted = set(question.sessions) or {opened.sessions[one] for one in question.evidence}
    row: Row = {"mrr": measures.reciprocal_rank(ids, question.evidence)}
    row["ndcg@10"] = measures.ndcg_at(ids, question.evidence, 10)
    for k in KS:
        share = measures.recall_at(ids, question.evidence, k)
        row |= {f"recall@{k}": share, f"any@{k}": float(share > 0), f"all@{k}": float(share == 1)}
        found = measures.recall_at(sessions, wanted, k)
        row |= {f"session any@{k}": float(found > 0), f"session all@{k}": float(found == 1)}
    return row


def _newer_first(question: Question, ids: Sequence[str]) -> float:
    """1 where what is true now comes before what was true, among the first 20."""
    newer = [one for one in question.evidence if one not in question.superseded]
    first = ids[:20]
    place = min((first.index(one) for one in newer if one in first), default=len(first))
    older = min((first.index(one) for one in question.superseded if one in first), default=99)
    return float(place < min(older, len(first)))


def ids_of(records: Iterable[MemoryRecord]) -> list[str]:
    """The distinct message ids of memories in order, each using one place."""
    return list(dict.fromkeys(i for record in records for i in record.message_ids))


def _baselines(opened: _Open, question: Question) -> dict[str, list[str]]:
    return {
        name: ids_of(opened.records[row] for row in rows)
        for name, rows in _by_baseline(opened, question, DEEP).items()
    }


def _by_baseline(opened: _Open, question: Question, most: int) -> dict[str, list[int]]:
    """The same store asked for its words alone, its vectors alone, and for what is newest."""
    index = opened.index
    everyone = np.ones(len(index), dtype=np.bool_)
    scores = {
        "BM25": bm25(index.postings, question_terms(question.text)),
        "embedder": index.matrix @ opened.vector_of(question.text),
        "recency": np.arange(len(index), dtype=np.float32),
    }
    return {
        name: [int(row) for row in best_rows(score, everyone, most)]
        for name, score in scores.items()
    }


def _contexts(opened: _Open, question: Question, read: bool) -> Row:
    """Coverage and answers of prompts by tokens; ours is `context()`, the others lines while they fit."""
    evidence = [opened.work.talk.text_of(one) for one in question.evidence]
    lines = {
        name: [opened.records[row].render() for row in rows]
        for name, rows in _by_baseline(opened, question, FILL).items()
    }
    coverage: dict[str, dict[str, float]] = {name: {} for name in METHODS}
    has_answer: dict[str, dict[str, float]] = {name: {} for name in METHODS}
    spent: list[float] = []
    row: Row = {"coverage": coverage, "answer_in": has_answer, "context_ms": spent}
    for budget in BUDGETS:
        start = perf_counter()
        context = opened.handle.context(question.text, budget=budget, at=question.at)
        spent.append((perf_counter() - start) * 1000)
        # Without the question itself, which stands in every prompt.
        prompts = {OURS: context.text.rpartition(question.text)[0]}
        prompts |= {name: filled(some, budget) for name, some in lines.items()}
        for name, text in prompts.items():
            shares = [measures.rendered(turn, question, text) for turn in evidence]
            coverage[name][str(budget)] = sum(shares) / len(shares)
            has_answer[name][str(budget)] = float(measures.answered(question.answer, text))
        if read and opened.reading is not None and budget == READ_AT:
            row["read"] = opened.reading.compare(question, prompts[OURS])
    return row


def filled(lines: Iterable[str], budget: int) -> str:
    """Whole lines in the order given while they fit the budget."""
    taken: list[str] = []
    tokens = 0
    for line in lines:
        tokens += count_tokens(line + "\n")
        if tokens > budget:
            break
        taken.append(line)
    return "\n".join(taken)


def _stranger(opened: _Open, question: Question) -> Row:
    """A question that is about somebody else: nothing here is relevant."""
    found = opened.handle.recall(question.text, at=question.at, limit=TOP)
    nearest = opened.handle.recall(question.text, at=question.at, limit=1, min_relevance=0)
    return {
        "type": "stranger",
        "data": opened.work.data,
        "conversation": opened.work.talk.name,
        "tokens": count_tokens(found.text),
        "hits": len(found),
        "top": max((hit.relevance for hit in nearest), default=0.0),
    }


def _store(opened: _Open, seconds: float) -> Row:
    """Figures of a whole store: what it holds, what repeats, what its transcript would cost."""
    texts = [record.text for record in opened.records]
    repeats, pairs = measures.bloat(opened.index.matrix, texts, ALIKE)
    whole = "\n".join(record.render() for record in opened.records)
    return {
        "type": "store",
        "data": opened.work.data,
        "conversation": opened.work.talk.name,
        "messages": len(opened.work.talk.messages),
        "memories": len(texts),
        "seconds": seconds,
        "merged": sum(len(record.message_ids) - 1 for record in opened.records),
        "kept": _kept(opened),
        "repeats": repeats,
        "repeated": [[texts[a][:SHOWN], texts[b][:SHOWN]] for a, b in pairs[:5]],
        "transcript_tokens": count_tokens(whole),
        "transcript_answers": sum(
            measures.answered(q.answer, whole) for q in opened.work.talk.questions if q.counts
        ),
    }


def _kept(opened: _Open) -> float:
    """Of the names and numbers of all messages, the share that is in the memories which stand on them."""
    said: dict[str, str] = {}
    for record in opened.records:
        for one in record.message_ids:
            said[one] = f"{said.get(one, '')} {record.text}"
    named = kept = 0
    for message in opened.work.talk.messages:
        text = said.get(str(message["id"]), "")
        wanted = set(_NAMED.findall(str(message["content"])))
        named += len(wanted)
        kept += sum(one in text for one in wanted)
    return kept / max(1, named)


def strangers_for(talks: Sequence[Conversation], at: int, most: int) -> tuple[Question, ...]:
    """Questions of other conversations, spread evenly over them."""
    others = [
        replace(question, evidence=(), answerable=False)
        for number, talk in enumerate(talks)
        if number != at
        for question in talk.questions
        if question.counts
    ]
    step = max(1, len(others) // most)
    return tuple(others[at % step :: step][:most])
