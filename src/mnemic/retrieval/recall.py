"""The flow of a question: read it, embed it, score, compare tokens, rank the best, cut, load, pack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnemic.errors import EmbedderError
from mnemic.models.embedder import Embedder, embed_question
from mnemic.models.terms import question_terms
from mnemic.models.tokens import count_tokens
from mnemic.records import KINDS, Hit, Kind, MemoryRecord, Recall, Scope
from mnemic.retrieval import channels
from mnemic.retrieval.cache import ResidentIndexes
from mnemic.retrieval.clues import names_of, read_asked, subject_of
from mnemic.retrieval.features import Scored, meet_tokens
from mnemic.retrieval.fuse import best_rows, diversify, fuse
from mnemic.retrieval.index import Index
from mnemic.retrieval.late import TokensMet, late_interaction
from mnemic.retrieval.postings import Floats
from mnemic.retrieval.ranking import Ranked, rank, see
from mnemic.retrieval.timewords import TimeWindow, find_windows
from mnemic.stores.known import KnownEmbedder
from mnemic.stores.rows import asked_at, now_micros, to_micros
from mnemic.stores.store import Store
from mnemic.timing import Timer

RECALLED: tuple[Kind, ...] = ("episodic", "semantic")
NOWHERE = -2  # the code of a session that isn't there
# Diversity chooses among this many times the hits that are asked for.
POOL = 5
# So many memories, the best by the plain sum, are ranked by all features.
HEAD = 200
# Unless another bar is asked for, nothing is handed over where it is less likely than this that anything
# in the scope answers. Else memories are left out that have less than a share of the evidence to be
# expected among the first ten: `SHARE` for the first, and `DEARER` of that more for each one down the list.
# A scope of at most `FEW` memories has no bar, one of up to `MANY` a lower one: there is little to tell
# relevance by, and little to hand over.
ANYTHING_HERE, SHARE, DEARER, FIRST = 0.25, 0.0225, 0.25, 10
FEW, MANY = 20, 200


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
    min_relevance: float | None = None


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
            vector, states, error = self._embed(subject_of(question.text))
        with timer.step("score"):
            scored = score(index, question.text, vector, windows)
            rows = candidates(scored, allowed, question)
        with timer.step("tokens"):
            met = self.meet(scope, index, rows, states)
        with timer.step("rank"):
            ranked = rank(see(index, scored, rows, met))
            chosen = _choose(index, ranked, question)
        with timer.step("load"):
            hits = self._load(scope, index, ranked, chosen, question.limit)
        tokens = None
        if question.budget is not None:
            with timer.step("pack"):
                hits, tokens = _pack(hits, question.budget)
        phrases = tuple(window.phrase for window in windows)
        return Recall(question.text, tuple(hits), tokens, phrases, error, timer.spent)

    def _embed(self, text: str) -> tuple[Floats | None, Floats, str | None]:
        """The question's vector and tokens' states, or why there are none: then its words have to do."""
        try:
            return *embed_question(self.embedder, text), None
        except EmbedderError as error:
            return None, np.zeros((0, 0), np.float32), f"{error} (only words were compared)"

    def meet(
        self, scope: Scope, index: Index, rows: NDArray[np.int64], states: Floats
    ) -> TokensMet | None:
        """How well rows meet the question's tokens, those after the head the least; None without codes."""
        if not len(states):
            return None
        keys = [index.id_of(int(row)) for row in rows[:HEAD]]
        codes = self.store.find_codes(scope, self.known, keys)
        return meet_tokens(index, rows, late_interaction(states, [codes.get(key) for key in keys]))

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
        self, scope: Scope, index: Index, ranked: Ranked, chosen: Sequence[int], limit: int
    ) -> list[Hit]:
        """Load the best; one that was forgotten a moment ago makes room for the next."""
        found: list[Hit] = []
        at = 0
        while len(found) < limit and at < len(chosen):
            some = chosen[at : at + limit - len(found)]
            keys = [index.id_of(int(ranked.rows[place])) for place in some]
            records = self.store.find_records(scope, keys)
            found += [
                _hit(records[key], ranked, place)
                for place, key in zip(some, keys, strict=True)
                if key in records
            ]
            at += len(some)
        return found


def score(
    index: Index,
    question: str,
    vector: NDArray[np.float32] | None,
    windows: Sequence[TimeWindow],
) -> Scored:
    """Score all memories of a scope for a question, whose vector may be missing."""
    live = None if index.columns.current.all() else index.columns.current
    cosine = np.zeros(len(index), np.float32) if vector is None else channels.meaning(index, vector)
    terms = question_terms(subject_of(question))
    meaning = channels.standardised(cosine, live)
    words = channels.standardised(channels.wording(index, terms), live)
    around = channels.around(index, meaning + words)
    scored = {
        "meaning": meaning,
        "words": words,
        "around": around,
        "speaker": channels.speaker(index, question),
        "source": channels.source(index, question),
        "time": channels.time(index, windows) if windows else None,
    }
    return Scored(
        cosine=cosine,
        meaning=meaning,
        words=words,
        around=around,
        total=fuse({name: scores for name, scores in scored.items() if scores is not None}),
        speaker=scored["speaker"],
        time=scored["time"],
        terms=terms,
        asked=read_asked(question),
        strange=_strange(index, question),
    )


def _strange(index: Index, question: str) -> float:
    """The share of the names in a question that no memory has, nor any speaker."""
    speakers = " ".join(index.speakers).casefold()
    names = [name for name in names_of(question) if name.casefold() not in speakers]
    said = [
        any(len(index.postings.of_term(term)[0]) for term in question_terms(name)) for name in names
    ]
    return 1.0 - sum(said) / len(said) if said else 0.0


def candidates(scored: Scored, allowed: NDArray[np.bool_], question: Question) -> NDArray[np.int64]:
    """The rows that are ranked: the best by the plain sum."""
    # A few more than asked, for those that another process has just forgotten.
    most = question.limit * (POOL if question.diversity else 1) + 8
    return best_rows(scored.total, allowed, max(HEAD, most))


def _choose(index: Index, ranked: Ranked, question: Question) -> list[int]:
    """Places in the ranking, best first: those that are relevant enough."""
    least = question.min_relevance
    if least is None:
        grown = min(1.0, max(0, len(index) - FEW) / (MANY - FEW))
        if ranked.anything < ANYTHING_HERE * grown:
            return []
        expected = float(ranked.relevance[:FIRST].sum())
        # From the tenth on it stays, under what each of ten alike has: none of many alike is left out.
        place = np.minimum(np.arange(len(ranked.rows)), FIRST - 1)
        bars = SHARE * expected * grown * (1 + DEARER * place)
        places = np.flatnonzero(ranked.relevance >= bars)
    else:
        places = np.flatnonzero(ranked.relevance >= least)
    if question.diversity:
        pool = places[: question.limit * POOL + 8]
        rows = ranked.rows[pool]
        order = diversify(
            np.arange(len(pool)), ranked.scores[pool], index.matrix[rows], question.diversity
        )
        places = pool[order]
    return [int(place) for place in places]


def _hit(record: MemoryRecord, ranked: Ranked, place: int) -> Hit:
    shares = {name: float(given[place]) for name, given in ranked.shares.items()}
    return Hit(record, float(ranked.scores[place]), shares, float(ranked.relevance[place]))


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
