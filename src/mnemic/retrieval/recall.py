"""The flow of a question: read it, embed it, score the channels, fuse, choose, load, fit the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnemic.errors import EmbedderError
from mnemic.models.embedder import Embedder, embed_checked
from mnemic.models.terms import question_terms
from mnemic.models.tokens import count_tokens
from mnemic.records import KINDS, Hit, Kind, MemoryRecord, Recall, Scope
from mnemic.retrieval import channels
from mnemic.retrieval.cache import ResidentIndexes
from mnemic.retrieval.fuse import WEIGHTS, best_rows, diversify, fuse
from mnemic.retrieval.index import Index
from mnemic.retrieval.timewords import TimeWindow, find_windows
from mnemic.stores.known import KnownEmbedder
from mnemic.stores.rows import asked_at, now_micros, to_micros
from mnemic.stores.store import Store
from mnemic.timing import Timer

RECALLED: tuple[Kind, ...] = ("episodic", "semantic")
NOWHERE = -2  # the code of a session that isn't there
# Diversity chooses among this many times the hits that are asked for.
POOL = 5


@dataclass(frozen=True, slots=True)
class Question:
    """A question and what narrows its answer. Times are aware.

    `at` only anchors words like "last May", in the scope's time zone; without it, that is the present.
    """

    text: str
    at: datetime | None = None
    limit: int = 10
    budget: int | None = None
    kinds: Sequence[Kind] | None = None
    since: datetime | None = None
    until: datetime | None = None
    session: str | None = None
    where: Mapping[str, Any] = field(default_factory=dict)
    tags: Sequence[str] = ()
    diversity: float = 0.0


@dataclass(frozen=True, slots=True)
class Reader:
    """What a question needs: the rows, the resident indexes, and the model of their vectors."""

    store: Store
    indexes: ResidentIndexes
    embedder: Embedder
    known: KnownEmbedder

    def recall(self, scope: Scope, question: Question) -> Recall:
        """Answer a question from one scope."""
        timer = Timer()
        with timer.step("index"):
            index = self.indexes.current(scope, self.known)
        with timer.step("read"):
            windows = find_windows(question.text, asked_at(question.at, index.stand.settings))
            allowed = self._allowed(scope, index, question)
        if not allowed.any():
            return Recall(question.text, (), tokens=0, timings_ms=timer.spent)
        with timer.step("embed"):
            vector, error = self._embed(question.text)
        with timer.step("score"):
            scored = _score(index, question, vector, windows)
            total = fuse(scored)
            rows = _choose(index, total, allowed, question)
        with timer.step("load"):
            found = self._load(scope, index, rows, question.limit)
            hits = [Hit(record, float(total[row]), _shares(scored, row)) for row, record in found]
        tokens = None
        if question.budget is not None:
            with timer.step("pack"):
                hits, tokens = _pack(hits, question.budget)
        phrases = tuple(window.phrase for window in windows)
        return Recall(question.text, tuple(hits), tokens, phrases, error, timer.spent)

    def _embed(self, text: str) -> tuple[NDArray[np.float32] | None, str | None]:
        """The question's vector, or why there is none: then its words have to do."""
        try:
            return embed_checked(self.embedder, [text])[0], None
        except EmbedderError as error:
            return None, f"{error} (only words were compared)"

    def _allowed(self, scope: Scope, index: Index, question: Question) -> NDArray[np.bool_]:
        """The rows that may answer."""
        columns, places = index.columns, index.places
        allowed = columns.current & (columns.expires_at > now_micros())
        # Instructions answer only where they are asked for: they are no evidence.
        kinds = RECALLED if question.kinds is None else question.kinds
        if question.kinds is not None or (columns.kind == KINDS.index("procedural")).any():
            allowed &= np.isin(columns.kind, [KINDS.index(kind) for kind in kinds])
        if question.session is not None or question.since or question.until:
            there = np.ones(len(places.row), dtype=np.bool_)
            if question.session is not None:
                there &= places.session == index.sessions.get(question.session, NOWHERE)
            if question.since is not None:
                there &= places.said_at >= to_micros(question.since)
            if question.until is not None:
                there &= places.said_at < to_micros(question.until)
            said = np.zeros(len(index), dtype=np.bool_)
            said[places.row[there]] = True
            allowed &= said
        if question.where or question.tags:
            allowed &= self._labelled(scope, index, question)
        return allowed

    def _labelled(self, scope: Scope, index: Index, question: Question) -> NDArray[np.bool_]:
        """The rows that carry the tags and metadata asked for."""
        wanted = set(question.tags)
        ids = [
            key
            for key, tags, metadata in self.store.labels(scope)
            if wanted <= set(tags)
            and all(_matches(metadata, *item) for item in question.where.items())
        ]
        rows = index.rows_of(ids)
        labelled = np.zeros(len(index), dtype=np.bool_)
        labelled[rows[rows >= 0]] = True
        return labelled

    def _load(
        self, scope: Scope, index: Index, rows: Sequence[int], limit: int
    ) -> list[tuple[int, MemoryRecord]]:
        """Load the best rows; one that was forgotten a moment ago makes room for the next."""
        found: list[tuple[int, MemoryRecord]] = []
        at = 0
        while len(found) < limit and at < len(rows):
            some = rows[at : at + limit - len(found)]
            keys = [index.id_of(int(row)) for row in some]
            records = self.store.find_records(scope, keys)
            for row, key in zip(some, keys, strict=True):
                record = records.get(key)
                if record is not None:
                    found.append((int(row), record))
            at += len(some)
        return found


def _score(
    index: Index,
    question: Question,
    vector: NDArray[np.float32] | None,
    windows: Sequence[TimeWindow],
) -> dict[str, Any]:
    live = None if index.columns.current.all() else index.columns.current
    cosine = np.zeros(len(index), np.float32) if vector is None else channels.meaning(index, vector)
    meaning = channels.standardised(cosine, live)
    words = channels.standardised(channels.wording(index, question_terms(question.text)), live)
    scored = {
        "meaning": meaning,
        "words": words,
        "around": channels.around(index, meaning + words),
        "speaker": channels.speaker(index, question.text),
        "source": channels.source(index, question.text),
        "time": channels.time(index, windows) if windows else None,
    }
    return {name: scores for name, scores in scored.items() if scores is not None}


def _choose(
    index: Index, total: NDArray[np.float32], allowed: NDArray[np.bool_], question: Question
) -> list[int]:
    # A few more than asked, for those that another process has just forgotten.
    most = question.limit * (POOL if question.diversity else 1) + 8
    rows = best_rows(total, allowed, most)
    if question.diversity:
        rows = diversify(rows, total[rows], index.matrix[rows], question.diversity)
    return [int(row) for row in rows]


def _shares(scored: Mapping[str, Any], row: int) -> dict[str, float]:
    """What each channel gave to the score of a row."""
    return {name: float(scores[row]) * WEIGHTS[name] for name, scores in scored.items()}


def _matches(metadata: Mapping[str, Any], key: str, wanted: Any) -> bool:
    """Equal, or, where a list is asked for, equal to any of it."""
    if key not in metadata:
        return False
    return metadata[key] in wanted if isinstance(wanted, list | tuple) else metadata[key] == wanted


def _pack(hits: Sequence[Hit], budget: int) -> tuple[list[Hit], int]:
    """Take hits in order as long as their rendered text fits; one too long makes way for a shorter."""
    taken: list[Hit] = []
    text, tokens = "", 0
    for hit in hits:
        line = hit.memory.render()
        longer = f"{text}\n{line}" if taken else line
        count = count_tokens(longer)
        if count <= budget:
            taken.append(hit)
            text, tokens = longer, count
    return taken, tokens
