"""The resident index: brought up to date step by step, it answers as one that is made from the rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemic.memory import Memory, ScopedMemory
from mnemic.models.terms import question_terms
from mnemic.records import Scope
from mnemic.retrieval import channels
from mnemic.retrieval.cache import SLOT_BYTES, ResidentIndexes
from mnemic.retrieval.index import Index
from mnemic.retrieval.recall import Question, Reader
from mnemic.retrieval.timewords import find_windows
from mnemic.stores import appending, loading
from mnemic.stores.rows import IndexRows, Stand, from_id
from mnemic.stores.store import Store
from tests.fakes import FailingEmbedder, FakeEmbedder, new_memory

MAY = datetime(2023, 5, 8, 12, tzinfo=UTC)
ASKED = datetime(2024, 1, 1, tzinfo=UTC)
QUESTIONS = [
    "What did Ana say about the red cat?",
    "Which boat did you recommend in May 2023?",
    "plum lisbon",
]

TEXT = st.lists(
    st.sampled_from("red cat boat plum Lisbon INV-7".split()), min_size=1, max_size=3
).map(" ".join)


def a_message(
    content: str, end: str, role: str, name: str | None, place: tuple[str | None, int]
) -> Any:
    """Every other day, what is said is said in capitals: a repeat, but in other words."""
    session, day = place
    text = (content + end).upper() if day % 2 else content + end
    said_at = MAY + timedelta(days=day)
    return {"content": text, "role": role, "name": name, "session": session, "said_at": said_at}


MESSAGE = st.builds(
    a_message,
    TEXT,
    st.sampled_from(["", "!", "."]),
    st.sampled_from(["user", "user", "assistant"]),
    st.sampled_from([None, "Ana", "Ben"]),
    st.tuples(st.sampled_from(["s1", "s2", None]), st.integers(0, 30)),
)
STEP = st.one_of(
    st.tuples(st.just("remember"), st.lists(MESSAGE, min_size=1, max_size=4)),
    st.tuples(st.just("without vectors"), st.lists(MESSAGE, min_size=1, max_size=2)),
    st.tuples(st.just("heal"), st.none()),
    st.tuples(st.just("forget memory"), st.integers(0, 99)),
    st.tuples(st.just("forget message"), st.integers(0, 99)),
    st.tuples(st.just("forget session"), st.sampled_from(["s1", "s2"])),
    st.tuples(st.just("pin"), st.integers(0, 99)),
    st.tuples(st.just("forget everything"), st.none()),
)


def take(memory: Memory, ana: ScopedMemory, step: tuple[str, Any]) -> None:
    """Do one step of a random history."""
    what, given = step
    embedder = memory._core.embedder
    assert isinstance(embedder, FailingEmbedder)
    records = list(ana.iter_memories())
    messages = [item.message for item in ana._message_page(0, 1000)]
    if what == "remember":
        ana.remember(given)
    elif what == "without vectors":
        embedder.failing = True
        ana.remember(given)
        embedder.failing = False
    elif what == "heal":
        memory._core.upkeep(now=True)
    elif what == "forget memory" and records:
        ana.forget(records[given % len(records)].id)
    elif what == "forget message" and messages:
        # Often the first that says a memory, which another one then rewords.
        message = messages[given % len(messages) if given > 40 else 0]
        ana.forget(message_id=message.id)
    elif what == "forget session":
        ana.forget_session(given)
    elif what == "pin" and records:
        ana.pin(records[given % len(records)].id)
    elif what == "forget everything":
        ana.forget_everything()


def answers(memory: Memory, ana: ScopedMemory, indexes: ResidentIndexes, text: str) -> Any:
    """Score and explanation of every memory."""
    known = memory._core.ledger.embedder()
    if known is None:
        return {}
    reader = Reader(memory._core.store, indexes, memory._core.embedder, known)
    found = reader.recall(ana.scope, Question(text, ASKED, limit=1000))
    return {hit.memory.id: {"score": hit.score, **hit.channels} for hit in found}


def channels_of(index: Index) -> list[Any]:
    """What an index value answers, each channel by itself."""
    [vector] = FakeEmbedder().embed(["red cat of Ana"])
    meaning = channels.meaning(index, vector)
    return [
        [from_id(index.id_of(row)) for row in range(len(index))],
        meaning,
        channels.wording(index, question_terms("red cat boat")),
        channels.around(index, meaning),
        channels.speaker(index, "What did Ana say?"),
        channels.source(index, "What did you recommend?"),
        channels.time(index, find_windows("in May 2023", ASKED)),
    ]


def check_same(one: list[Any], other: list[Any]) -> None:
    assert one[0] == other[0]
    for mine, its in zip(one[1:], other[1:], strict=True):
        np.testing.assert_array_equal(mine, its)


@given(st.lists(STEP, min_size=1, max_size=14))
def test_an_index_kept_up_to_date_answers_as_one_made_from_the_rows(
    steps: list[tuple[str, Any]],
) -> None:
    with pytest.MonkeyPatch.context() as patch, new_memory(FailingEmbedder()) as memory:
        patch.setattr(appending, "EMBED_GRACE_MICROS", 0)
        # Small, so that random histories grow past it.
        patch.setattr("mnemic.retrieval.postings._TAIL", 12)
        # Vectors that a remember left undone are made by the step "heal" alone.
        patch.setattr(memory._core, "upkeep", lambda **_: None)
        ana = memory.user("ana")
        for step in steps:
            take(memory, ana, step)
            fresh = ResidentIndexes(memory._core.store, 10**9)
            for question in QUESTIONS:
                kept = answers(memory, ana, memory._core.indexes, question)
                made = answers(memory, ana, fresh, question)
                assert kept.keys() == made.keys() == {r.id for r in ana.iter_memories()}
                for id, shares in made.items():
                    assert kept[id] == pytest.approx(shares, abs=2e-4), question


@given(st.lists(STEP, min_size=1, max_size=10))
@settings(max_examples=20)
def test_an_index_in_use_is_not_disturbed_by_an_update(steps: list[tuple[str, Any]]) -> None:
    with pytest.MonkeyPatch.context() as patch, new_memory(FailingEmbedder()) as memory:
        patch.setattr(appending, "EMBED_GRACE_MICROS", 0)
        ana = memory.user("ana")
        ana.remember([{"content": "red cat", "name": "Ana", "said_at": MAY}, "blue boat"])
        known = memory._core.ledger.embedder()
        assert known is not None
        for step in steps:
            held = memory._core.indexes.current(ana.scope, known)
            before = channels_of(held)
            take(memory, ana, step)
            memory._core.indexes.current(ana.scope, known)
            check_same(channels_of(held), before)


def test_a_reworded_memory_does_not_disturb_an_index_in_use(
    memory: Memory, ana: ScopedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    ana.remember([{"content": "red cat", "id": "m1"}, {"content": "blue boat", "id": "m2"}])
    ana.remember({"content": "Red cat!", "id": "m3"})
    known = memory._core.ledger.embedder()
    assert known is not None
    held = memory._core.indexes.current(ana.scope, known)
    before = channels_of(held)
    # Between the erasure and the new vector, another thread asks.
    monkeypatch.setattr(memory._core, "upkeep", lambda **_: None)
    ana.forget(message_id="m1")
    newer = memory._core.indexes.current(ana.scope, known)
    assert list(newer.columns.has_vector) == [False, True]
    check_same(channels_of(held), before)


def test_many_changes_are_read_as_a_whole(ana: ScopedMemory, memory: Memory) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "MAX_DELTA", 3)
        ana.remember("the first of all")
        assert len(ana.recall("first")) == 1
        ana.remember([f"number {n} of many" for n in range(10)])
        assert len(ana.recall("many", limit=50, min_relevance=0)) == 11
        made = answers(memory, ana, ResidentIndexes(memory._core.store, 10**9), "number 7")
        assert answers(memory, ana, memory._core.indexes, "number 7") == made


class CountingStore(Store):
    """Notes which scopes were read whole."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.database)
        self.loaded: list[str] = []

    def index_rows(self, scope: Scope, embedder: Any, known: Stand | None) -> IndexRows | None:
        if known is None:
            self.loaded.append(scope.name)
        return super().index_rows(scope, embedder, known)


def test_the_index_not_asked_for_longest_makes_room(memory: Memory) -> None:
    for name in "abc":
        memory.user(name).remember([f"{name} bought thing number {n}" for n in range(40)])
    known = memory._core.ledger.embedder()
    assert known is not None
    store = CountingStore(memory._core.store)
    scopes = {name: memory.user(name).scope for name in "abc"}
    one = ResidentIndexes(store, 10**9).current(scopes["a"], known).nbytes + SLOT_BYTES
    assert one > 40 * 32 * 4
    indexes = ResidentIndexes(store, int(one * 2.5))
    store.loaded.clear()
    for name in "abacbca":
        index = indexes.current(scopes[name], known)
        assert len(index) == 40
        assert indexes.nbytes() <= one * 2.5
    # b makes room for c, a for b, and b for a.
    assert store.loaded == ["a", "b", "c", "b", "a"]


def test_an_index_larger_than_the_room_still_answers(memory: Memory) -> None:
    for name in "ab":
        memory.user(name).remember([f"{name} bought thing number {n}" for n in range(40)])
    known = memory._core.ledger.embedder()
    assert known is not None
    indexes = ResidentIndexes(memory._core.store, 1)
    for name in "abab":
        assert len(indexes.current(memory.user(name).scope, known)) == 40


def test_an_index_that_grows_counts_what_it_holds(ana: ScopedMemory, memory: Memory) -> None:
    ana.remember("one")
    ana.recall("one")
    small = memory._core.indexes.nbytes()
    ana.remember([f"number {n}" for n in range(100)])
    ana.recall("one")
    assert memory._core.indexes.nbytes() > small + 100 * 32 * 4
    memory._core.indexes.clear()
    assert memory._core.indexes.nbytes() == 0
    assert len(ana.recall("one", limit=500, min_relevance=0)) == 101
