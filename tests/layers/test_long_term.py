"""Long-term memory: episodes by likeness and by time, facts, and both at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemic import EpisodicMemory, LongTermMemory, SemanticMemory
from mnemic.errors import InputError
from mnemic.memory import Memory, ScopedMemory
from mnemic.records import MemoryRecord
from tests.fakes import new_memory, open_memory

MAY = datetime(2023, 5, 8, 12, tzinfo=UTC)
WORDS = ["tea", "coffee", "milk", "juice", "water"]


def texts(records: Any) -> list[str]:
    return [record.text for record in records]


def hours(number: int) -> datetime:
    return MAY + timedelta(hours=number)


# --- episodes -------------------------------------------------------------------------------------


def test_episodes_are_found_by_likeness_without_the_facts(ana: ScopedMemory) -> None:
    episodes = EpisodicMemory(ana)
    receipt = episodes.remember("I like tea.", session="s1")
    ana.facts.remember("Ana likes tea.")
    assert [hit.memory.id for hit in episodes.recall("tea")] == list(receipt.memory_ids)
    assert len(episodes.recall("tea", in_session="s2")) == 0
    assert len(episodes.recall("tea", in_session="s1", until="2999-01-01T00:00Z", limit=1)) == 1


def test_the_last_episodes_come_in_the_order_of_time(ana: ScopedMemory) -> None:
    ana.remember([{"content": f"thing {n}", "said_at": hours(n * 7 % 10)} for n in range(10)])
    ana.facts.remember("A fact is no episode.", said_at=hours(99))
    episodes = EpisodicMemory(ana)
    latest = episodes.recent(3)
    assert [record.said_at for record in latest] == [hours(7), hours(8), hours(9)]
    assert [record.said_at for record in episodes.iter_episodes()] == [hours(n) for n in range(10)]


def test_what_was_said_at_one_moment_comes_as_it_arrived(ana: ScopedMemory) -> None:
    for session in ("b", "a", "b"):
        said = [{"content": f"{session} {n}", "said_at": MAY} for n in range(4)]
        ana.remember(said, session=session)
    order = ["b 0", "b 1", "b 2", "b 3", "a 0", "a 1", "a 2", "a 3"]
    assert texts(EpisodicMemory(ana).iter_episodes()) == order


SAID = st.tuples(
    st.sampled_from(WORDS),
    st.integers(0, 12),
    st.sampled_from(["s1", "s2", None]),
    st.booleans(),
)
BOUND = st.none() | st.integers(-1, 13)


@given(st.lists(SAID, max_size=25), BOUND, BOUND, st.integers(1, 6), st.sampled_from(["s1", None]))
def test_a_span_of_time_holds_what_was_said_in_it_each_thing_once(
    said: list[tuple[str, int, str | None, bool]],
    first: int | None,
    last: int | None,
    limit: int,
    session: str | None,
) -> None:
    if first is not None and last is not None and first > last:
        first, last = last, first
    with new_memory() as memory:
        ana = memory.user("ana")
        ana.facts.remember("A fact is no episode.")
        for word, hour, place, expired in said:
            message: dict[str, Any] = {"content": word, "said_at": hours(hour), "session": place}
            if expired:
                message["expires_at"] = MAY
            ana.remember(message)
        inside = [
            (hour, number, word)
            for number, (word, hour, place, expired) in enumerate(said)
            if not expired
            and (first is None or hour >= first)
            and (last is None or hour < last)
            and (session is None or place == session)
        ]
        firsts = list(dict.fromkeys(word for *_, word in sorted(inside)))
        since, until = (None if n is None else hours(n) for n in (first, last))
        episodes = EpisodicMemory(ana)
        assert (
            texts(episodes.between(since, until, limit=limit, in_session=session)) == firsts[:limit]
        )
        assert texts(episodes.iter_episodes(since, until, in_session=session)) == firsts
        if first is None and last is None:
            lasts = list(dict.fromkeys(word for *_, word in sorted(inside, reverse=True)))
            assert texts(episodes.recent(limit, in_session=session)) == lasts[:limit][::-1]


def test_episodes_are_read_a_page_at_a_time_and_what_is_forgotten_meanwhile_is_left_out(
    ana: ScopedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnemic.layers.episodic._PAGE", 2)
    ana.remember([{"content": f"thing {n}", "id": f"m{n}", "said_at": hours(n)} for n in range(6)])
    found = EpisodicMemory(ana).iter_episodes()
    assert next(found).text == "thing 0"
    ana.forget(message_id="m3")
    ana.remember({"content": "thing 2b", "said_at": hours(2)})
    assert texts(found) == ["thing 1", "thing 2", "thing 4", "thing 5"]


def test_no_more_rows_are_read_than_are_shown(memory: Memory, ana: ScopedMemory) -> None:
    ana.remember([{"content": f"thing {n}", "said_at": hours(n)} for n in range(300)])
    episodes = EpisodicMemory(ana)
    episodes.recent(1)
    asked: list[int] = []
    find = type(ana._core.store).find_records

    def watched(self: Any, scope: Any, ids: Any) -> dict[bytes, MemoryRecord]:
        asked.append(len(ids))
        return find(self, scope, ids)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(ana._core.store), "find_records", watched)
        assert len(episodes.recent(7)) == len(episodes.between(MAY, limit=7)) == 7
    assert asked == [7, 7]


@pytest.mark.parametrize(
    "bad",
    [
        {"limit": 0},
        {"limit": True},
        {"limit": None},
        {"since": "yesterday"},
        {"since": datetime(2023, 5, 8)},
        {"until": 10**30},
        {"since": MAY, "until": MAY - timedelta(days=1)},
        {"in_session": " "},
        {"in_session": 3},
    ],
    ids=str,
)
def test_a_bad_span_is_refused(ana: ScopedMemory, bad: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        EpisodicMemory(ana).between(**bad)


def test_where_nothing_was_said_there_are_no_episodes(db: Path) -> None:
    with open_memory(db) as memory:
        episodes = EpisodicMemory(memory.user("ana"))
        assert (episodes.recent(), episodes.between(), list(episodes.iter_episodes())) == (
            [],
            [],
            [],
        )
        assert len(episodes.recall("tea")) == 0
        memory.user("ben").remember("I like tea.")
        assert (episodes.recent(), episodes.between()) == ([], [])
        assert episodes.recent(in_session="s1") == []


# --- both -----------------------------------------------------------------------------------------


def test_both_kinds_answer_a_question_each_best_first(ana: ScopedMemory) -> None:
    long_term = LongTermMemory(ana)
    [said] = long_term.remember("I drink tea in the morning.", session="s1").memory_ids
    fact = long_term.remember_fact("Ana drinks tea.", confidence=0.8, message_ids=[])
    for word in WORDS:
        long_term.remember(f"I saw {word}.")
        long_term.remember_fact(f"Ana saw {word}.")
    found = long_term.recall("does she drink tea?", episodes=2, facts=3)
    assert (len(found.episodes), len(found.facts)) == (2, 3)
    assert found.query == "does she drink tea?"
    assert said in {hit.memory.id for hit in found.episodes}
    assert fact.id in {hit.memory.id for hit in found.facts}
    assert {hit.memory.kind for hit in found.episodes} == {"episodic"}
    assert {hit.memory.kind for hit in found.facts} == {"semantic"}
    assert found.text.splitlines() == [
        hit.memory.render() for hit in [*found.facts, *found.episodes]
    ]


def test_an_empty_half_leaves_no_empty_line(ana: ScopedMemory) -> None:
    long_term = LongTermMemory(ana)
    assert long_term.recall("tea").text == ""
    fact = long_term.remember_fact("Ana drinks tea.")
    assert long_term.recall("tea").text == fact.render()


def test_the_faces_show_one_store(ana: ScopedMemory) -> None:
    fact = SemanticMemory(ana).remember("Ana drinks tea.", confidence=0.8)
    [said] = LongTermMemory(ana).remember("I drink tea.").memory_ids
    assert LongTermMemory(ana).facts.get(fact.id) == ana.facts.get(fact.id) == fact
    assert [record.id for record in EpisodicMemory(ana).recent()] == [said]
    assert {record.id for record in ana.iter_memories()} == {fact.id, said}
    assert SemanticMemory(ana).profile() == ana.facts.profile() == [fact]


# --- what the guide's sketches lack ---------------------------------------------------------------


def test_what_is_stored_twice_is_one_memory(ana: ScopedMemory) -> None:
    long_term = LongTermMemory(ana)
    for _ in range(2):
        long_term.remember("I moved to Lisbon!")
        long_term.remember("i moved to  lisbon")
        long_term.remember_fact("Ana lives in Lisbon.")
        long_term.remember_fact("ana lives in Lisbon")
    assert texts(ana.iter_memories()) == ["I moved to Lisbon!", "Ana lives in Lisbon."]


def test_times_are_aware_and_a_naive_one_is_refused(ana: ScopedMemory) -> None:
    long_term = LongTermMemory(ana)
    fact = long_term.remember_fact("Ana lives in Lisbon.", said_at="2023-05-08T14:00:00+02:00")
    assert fact.said_at == MAY
    assert fact.said_at.tzinfo == fact.recorded_at.tzinfo == UTC
    with pytest.raises(InputError, match="time zone"):
        long_term.remember_fact("Ana lives in Porto.", said_at=datetime(2023, 5, 8, 12))
    with pytest.raises(InputError, match="time zone"):
        long_term.episodes.between(datetime(2023, 5, 8))


def test_each_user_has_a_long_term_memory_of_their_own(memory: Memory) -> None:
    ana, ben = (LongTermMemory(memory.user(name)) for name in ("ana", "ben"))
    ana.remember("I live in Lisbon.")
    ana.remember_fact("Ana lives in Lisbon.")
    ben.remember("I live in Porto.")
    ben.remember_fact("Ben lives in Porto.")
    for mine, theirs in ((ana, "Porto"), (ben, "Lisbon")):
        found = mine.recall("where do they live, in Lisbon or in Porto?", episodes=10, facts=10)
        assert (len(found.episodes), len(found.facts)) == (1, 1)
        assert theirs not in found.text
        assert theirs not in " ".join(texts([*mine.episodes.recent(), *mine.facts.profile()]))


def test_facts_written_again_from_the_same_episodes_stay_the_same(ana: ScopedMemory) -> None:
    long_term = LongTermMemory(ana)
    receipt = long_term.remember([{"content": "I drink tea.", "id": "m1"}, "Every day."])
    runs = [
        long_term.remember_fact(
            "Ana drinks tea every day.", confidence=0.8, message_ids=receipt.message_ids
        )
        for _ in range(3)
    ]
    assert runs[0] == runs[1] == runs[2]
    assert len(list(long_term.facts.iter_facts())) == 1


def test_the_guides_context_is_a_line_each(ana: ScopedMemory) -> None:
    long_term = LongTermMemory(ana)
    long_term.remember("I drink tea.")
    long_term.remember_fact("Ana drinks tea.", confidence=0.8)
    found = long_term.recall("tea", episodes=3, facts=5)
    context = {
        "episodes": [hit.memory.text for hit in found.episodes],
        "facts": [
            {"text": hit.memory.text, "confidence": hit.memory.confidence} for hit in found.facts
        ],
    }
    assert context == {
        "episodes": ["I drink tea."],
        "facts": [{"text": "Ana drinks tea.", "confidence": 0.8}],
    }
