"""Facts by hand: what makes two of them one, when they hold, what stands on what, and forgetting them."""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from mnemic.errors import AmbiguousMessage, InputError
from mnemic.memory import Memory, ScopedMemory
from mnemic.records import MemoryRecord
from mnemic.writing.facts import MAX_FACT
from tests.fakes import FailingEmbedder, FakeEmbedder, new_memory, open_memory

MAY = datetime(2023, 5, 8, 12, tzinfo=UTC)
SECRET = "Ana's locker at the gym opens with 4711-08-15."


def texts(records: Any) -> list[str]:
    return [record.text for record in records]


def say(ana: ScopedMemory, *ids: str, session: str | None = None) -> None:
    ana.remember([{"id": id, "content": f"something {id} says"} for id in ids], session=session)


# --- remembering ----------------------------------------------------------------------------------


def test_a_fact_is_a_memory_with_its_confidence_times_and_source(ana: ScopedMemory) -> None:
    say(ana, "m1", "m2", session="s1")
    fact = ana.facts.remember(
        "  Ana lives in Lisbon.\n",
        confidence=0.9,
        said_at=MAY,
        valid_from=MAY - timedelta(days=3),
        valid_to="2033-05-08T12:00:00Z",
        message_ids=["m2", "m1", "m2"],
        session="s1",
        importance=0.7,
        source="assistant",
        tags=["home"],
        metadata={"page": 3},
        expires_at=MAY + timedelta(days=9_000),
        pinned=True,
    )
    assert fact == ana.get(fact.id) == ana.facts.get(fact.id)
    assert (fact.kind, fact.text, fact.status) == ("semantic", "Ana lives in Lisbon.", "current")
    assert (fact.confidence, fact.importance, fact.pinned) == (0.9, 0.7, True)
    assert (fact.said_at, fact.valid_from) == (MAY, MAY - timedelta(days=3))
    assert fact.valid_to == datetime(2033, 5, 8, 12, tzinfo=UTC)
    assert fact.expires_at == MAY + timedelta(days=9_000)
    assert (fact.source, fact.speaker, fact.session) == ("assistant", None, None)
    assert (fact.message_ids, fact.tags, dict(fact.metadata)) == (
        ("m1", "m2"),
        ("home",),
        {"page": 3},
    )
    assert fact.recorded_at > MAY


def test_a_fact_alone_is_the_users_certain_and_learned_now(ana: ScopedMemory) -> None:
    before = datetime.now(UTC)
    fact = ana.facts.remember("Ana drinks tea.")
    assert before <= fact.said_at == fact.recorded_at <= datetime.now(UTC)
    assert (fact.confidence, fact.importance, fact.pinned) == (1.0, 0.5, False)
    assert (fact.source, fact.message_ids, fact.holds) == ("user", (), "")


def test_the_same_fact_again_is_the_same_memory(ana: ScopedMemory) -> None:
    say(ana, "m1", "m2")
    first = ana.facts.remember("Ana drinks tea.", confidence=0.5, said_at=MAY, message_ids=["m1"])
    again = ana.facts.remember("ana  drinks tea", confidence=0.8, message_ids=["m2", "m1"])
    assert again.id == first.id
    assert (again.text, again.said_at) == ("Ana drinks tea.", MAY)
    assert (again.confidence, again.message_ids) == (0.8, ("m1", "m2"))
    less = ana.facts.remember("Ana drinks tea.", confidence=0.1, importance=0.2)
    assert less == again
    assert len(list(ana.facts.iter_facts())) == 1
    assert [change.action for change in ana.history(first.id)] == ["remembered", "supported"]


def test_what_is_there_already_changes_nothing(memory: Memory, ana: ScopedMemory) -> None:
    ana.facts.remember("Ana drinks tea.")
    [before] = memory.operator.stats().scopes
    ana.facts.remember("Ana drinks tea.")
    assert memory.operator.stats().scopes == (before,)


@pytest.mark.parametrize(
    "other",
    [
        {"source": "assistant"},
        {"tags": ["drink"]},
        {"metadata": {"page": 3}},
        {"valid_from": MAY},
        {"valid_to": MAY},
        {"expires_at": "2999-01-01T00:00:00Z"},
    ],
)
def test_another_source_label_or_time_makes_another_fact(
    ana: ScopedMemory, other: dict[str, Any]
) -> None:
    one = ana.facts.remember("Ana drinks tea.")
    two = ana.facts.remember("Ana drinks tea.", **other)
    assert one.id != two.id
    assert ana.facts.remember("Ana drinks tea.", **other).id == two.id


def test_a_fact_and_a_message_of_the_same_words_are_two_memories(ana: ScopedMemory) -> None:
    [said] = ana.remember("I drink tea.").memory_ids
    fact = ana.facts.remember("I drink tea.")
    receipt = ana.remember("I drink tea.")
    assert receipt.memory_ids == (said,)
    assert fact.id != said
    assert [(r.kind, r.text) for r in ana.iter_memories()] == [
        ("episodic", "I drink tea."),
        ("semantic", "I drink tea."),
    ]


def test_messages_of_the_name_in_several_sessions_must_be_told_apart(ana: ScopedMemory) -> None:
    say(ana, "m1", session="s1")
    say(ana, "m1", session="s2")
    with pytest.raises(AmbiguousMessage):
        ana.facts.remember("Ana drinks tea.", message_ids=["m1"])
    fact = ana.facts.remember("Ana drinks tea.", message_ids=["m1"], session="s2")
    ana.forget_session("s1")
    assert ana.get(fact.id) == fact
    ana.forget_session("s2")
    assert ana.get(fact.id) is None


BAD: dict[str, dict[str, Any]] = {
    "no text": {"text": None},
    "blank": {"text": " \n"},
    "bytes": {"text": b"Ana drinks tea."},
    "too long": {"text": "a" * (MAX_FACT + 1)},
    "a NUL": {"text": "Ana\x00"},
    "a surrogate": {"text": "Ana\ud800"},
    "confidence too high": {"confidence": 1.1},
    "confidence too low": {"confidence": -0.1},
    "confidence that is no number": {"confidence": math.nan},
    "confidence that is infinite": {"confidence": math.inf},
    "confidence as text": {"confidence": "0.5"},
    "confidence as truth": {"confidence": True},
    "confidence missing": {"confidence": None},
    "importance too high": {"importance": 2},
    "importance as truth": {"importance": False},
    "pinned as a number": {"pinned": 1},
    "an unknown source": {"source": "the moon"},
    "a source that is no text": {"source": ["user"]},
    "said at no time": {"said_at": "yesterday"},
    "said at without a zone": {"said_at": datetime(2023, 5, 8)},
    "valid from no time": {"valid_from": object()},
    "valid to before from": {"valid_from": MAY, "valid_to": MAY - timedelta(days=1)},
    "valid for no time": {"valid_from": MAY, "valid_to": MAY},
    "valid to far away": {"valid_to": "9999-01-01T00:00:00Z"},
    "expires at no time": {"expires_at": "soon"},
    "one message id": {"message_ids": "m1"},
    "a message id that is a number": {"message_ids": [1]},
    "a blank message id": {"message_ids": [" "]},
    "message ids as a mapping": {"message_ids": {"m1": 1}},
    "a number of message ids": {"message_ids": 1},
    "endless message ids": {"message_ids": (f"m{n}" for n in range(10_000_000))},
    "a message that isn't there": {"message_ids": ["m1", "m9"]},
    "a message that isn't in the session": {"message_ids": ["m1"], "session": "s9"},
    "a session without messages": {"session": "s1"},
    "a blank session": {"message_ids": ["m1"], "session": " "},
    "tags as text": {"tags": "home"},
    "metadata as text": {"metadata": "home"},
    "metadata that is no JSON": {"metadata": {"a": object()}},
    "an unknown field": {"colour": "red"},
    "an id of one's own": {"id": "m1"},
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_a_bad_fact_is_refused_and_changes_nothing(
    memory: Memory, ana: ScopedMemory, bad: dict[str, Any]
) -> None:
    say(ana, "m1")
    before = memory.operator.stats()
    with pytest.raises(InputError) as refused:
        ana.facts.remember(**{"text": "Ana drinks tea.", **bad})
    assert len(str(refused.value)) < 400
    assert memory.operator.stats() == before


def test_a_bad_first_fact_leaves_a_new_store_as_it_was(memory: Memory, ana: ScopedMemory) -> None:
    with pytest.raises(InputError):
        ana.facts.remember("Ana drinks tea.", message_ids=["m1"])
    assert memory.operator.scopes() == []


def test_without_its_embedder_a_fact_is_found_by_its_words(db: Path) -> None:
    embedder = FailingEmbedder()
    with open_memory(db, embedder) as memory:
        ana = memory.user("ana")
        ana.facts.remember("Ana lives in Porto.")  # settles the embedder's dimensions
        embedder.failing = True
        fact = ana.facts.remember("Ana drinks tea.")
        found = ana.facts.recall("who drinks tea?", limit=1)
        assert [hit.memory for hit in found] == [fact]
        assert found.error is not None
        embedder.failing = False
        stats = memory.operator.upkeep()
        assert (stats.jobs, [scope.without_vector for scope in stats.scopes]) == ({}, [0])


def test_facts_move_to_another_embedder_and_are_mended_with_the_rest(db: Path) -> None:
    with open_memory(db) as memory:
        fact = memory.user("ana").facts.remember("Ana drinks tea.")
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute("DELETE FROM terms")
    with open_memory(db, FakeEmbedder("other")) as memory:
        assert memory.operator.reembed() == 1
        memory.operator.repair()
        assert all(finding.ok for finding in memory.operator.check())
        [hit] = memory.user("ana").facts.recall("tea")
        assert hit.memory == fact
    with closing(sqlite3.connect(db)) as connection:
        assert connection.execute("SELECT count(*) FROM terms").fetchone() == (1,)


# --- finding --------------------------------------------------------------------------------------


def test_facts_are_recalled_alone_and_beside_what_was_said(ana: ScopedMemory) -> None:
    ana.remember("I like tea.")
    fact = ana.facts.remember("Ana drinks tea.")
    assert [hit.memory.id for hit in ana.facts.recall("tea")] == [fact.id]
    assert {hit.memory.kind for hit in ana.recall("tea")} == {"episodic", "semantic"}
    assert len(ana.recall("tea", kinds=["episodic"])) == 1


def test_recall_of_facts_is_narrowed_as_recall_is(ana: ScopedMemory) -> None:
    home = ana.facts.remember("Ana drinks tea.", tags=["home"], metadata={"page": 3}, said_at=MAY)
    ana.facts.remember("Ana drinks tea at work.")
    for narrowed in ({"tags": ["home"]}, {"where": {"page": 3}}, {"until": "2023-06-01T00:00Z"}):
        found = ana.facts.recall("tea", **narrowed)
        assert [hit.memory.id for hit in found] == [home.id]
    assert len(ana.facts.recall("tea", budget=1)) == 0
    with pytest.raises(InputError, match="narrowed by"):
        ana.facts.recall("tea", in_session="s1")  # type: ignore[call-arg]
    with pytest.raises(InputError, match="limit"):
        ana.facts.recall("tea", limit=0)
    with pytest.raises(InputError, match="blank"):
        ana.facts.recall(" ")


def test_where_nothing_was_written_there_are_no_facts(ana: ScopedMemory) -> None:
    facts = ana.facts
    assert (len(facts.recall("tea")), facts.profile(), list(facts.iter_facts())) == (0, [], [])
    assert facts.get("01890a5d-ac96-774b-bcce-b302099a8057") is None
    assert facts.get("nothing") is None


def test_what_was_said_is_no_fact(ana: ScopedMemory) -> None:
    [id] = ana.remember("I like tea.").memory_ids
    assert ana.facts.get(id) is None
    assert ana.facts.forget(id).state == "absent"
    assert ana.get(id) is not None


def test_an_expired_fact_is_not_recalled(ana: ScopedMemory) -> None:
    ana.facts.remember("Ana drinks tea.", expires_at=MAY)
    assert len(ana.facts.recall("tea")) == 0


def test_a_line_says_when_a_fact_holds(ana: ScopedMemory) -> None:
    porto = ana.facts.remember(
        "Ana lives in Porto.", said_at=MAY, valid_from="2010-01-01T00:00Z", valid_to=MAY
    )
    line = "[2023-05-08] user: Ana lives in Porto. (from 2010-01-01 until 2023-05-08)"
    assert porto.render() == line
    assert ana.recall("where does Ana live?").text == line


def test_facts_have_no_neighbours_and_disturb_no_conversation(ana: ScopedMemory) -> None:
    say(ana, "m1", "m2", "m3", session="s1")
    before = {hit.memory.id: hit.channels.get("around", 0) for hit in ana.recall("m2 says")}
    for number in range(3):
        ana.facts.remember(f"Fact {number}", message_ids=[f"m{number + 1}"])
    found = ana.recall("m2 says", in_session="s1")
    assert {hit.memory.id for hit in found} == set(before)
    assert all(hit.channels.get("around", 0) == 0 for hit in ana.facts.recall("m2 says"))


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.5, 1.0]),
            st.sampled_from([0.2, 0.5, 1.0]),
            st.booleans(),
            st.sampled_from([None, -3, 1]),
            st.sampled_from([None, -1, 3]),
            st.sampled_from([None, -1, 1]),
            st.integers(0, 3),
        ),
        max_size=8,
    ),
    st.integers(1, 5),
)
def test_the_profile_holds_what_is_so_now_the_most_important_first(
    given_facts: list[tuple[Any, ...]], limit: int
) -> None:
    now = datetime.now(UTC)

    def at(days: int | None) -> datetime | None:
        return None if days is None else now + timedelta(days=days)

    with new_memory() as memory:
        ana = memory.user("ana")
        ana.remember("I am no fact.")
        ana.procedures.remember("tone", "I am no fact either.")
        made: list[MemoryRecord] = []
        for number, (importance, sure, pinned, first, last, end, day) in enumerate(given_facts):
            made.append(
                ana.facts.remember(
                    f"fact {number}",
                    importance=importance,
                    confidence=sure,
                    pinned=pinned,
                    valid_from=at(first),
                    valid_to=at(last) if (first, last) != (1, -1) else None,
                    expires_at=at(end),
                    said_at=MAY + timedelta(days=day),
                )
            )
        holds = [
            fact
            for fact in made
            if (fact.expires_at is None or fact.expires_at > now)
            and (fact.valid_from is None or fact.valid_from <= now)
            and (fact.valid_to is None or fact.valid_to > now)
        ]
        holds.sort(
            key=lambda f: (f.pinned, f.importance * f.confidence, f.said_at, f.id), reverse=True
        )
        assert ana.facts.profile(limit) == holds[:limit]
        assert list(ana.facts.iter_facts()) == made


def test_the_profile_and_the_facts_are_read_without_the_episodes(
    memory: Memory, ana: ScopedMemory
) -> None:
    say(ana, *(f"m{n}" for n in range(50)))
    ana.facts.remember("Ana drinks tea.")
    asked: list[tuple[str, Any]] = []
    engine = memory._core.database.engine

    @event.listens_for(engine, "before_cursor_execute")
    def note(_c: Any, _cursor: Any, statement: str, values: Any, *_more: Any) -> None:
        asked.append((statement, values))

    ana.facts.profile()
    list(ana.facts.iter_facts())
    ana.facts.remember("Ana drinks tea.")
    statements = [
        (text, values) for text, values in asked if "records" in text and "SELECT" in text
    ]
    assert len(statements) >= 5
    with engine.connect() as connection:
        for text, values in statements:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values).all()
            steps = [row[3] for row in plan if "records" in row[3]]
            assert all("SEARCH" in step and step.count("=?") >= 2 for step in steps), steps


@pytest.mark.parametrize("limit", [0, -1, True, 1.0, "3", None, 10**9])
def test_a_bad_limit_of_a_profile_is_refused(ana: ScopedMemory, limit: Any) -> None:
    with pytest.raises(InputError, match="limit"):
        ana.facts.profile(limit)


# --- pins, history, forgetting --------------------------------------------------------------------


def test_a_pinned_fact_leads_the_profile(ana: ScopedMemory) -> None:
    tea, _cat = ana.facts.remember("Ana drinks tea."), ana.facts.remember("Ana has a cat.")
    assert texts(ana.facts.profile()) == ["Ana has a cat.", "Ana drinks tea."]
    assert ana.pin(tea.id)
    assert texts(ana.facts.profile()) == ["Ana drinks tea.", "Ana has a cat."]
    assert ana.unpin(tea.id)
    assert [c.action for c in ana.history(tea.id)] == ["remembered", "pinned", "unpinned"]


def test_forgetting_a_fact_that_no_message_says_erases_it(db: Path, ana: ScopedMemory) -> None:
    fact = ana.facts.remember(
        SECRET, tags=["a private matter"], metadata={"where": "gym by the sea"}
    )
    ana.facts.remember("Ana drinks tea.")
    erasure = ana.forget(fact.id)
    assert (erasure.state, erasure.messages, erasure.memories) == ("clean", 0, 1)
    assert ana.get(fact.id) is None
    assert len(ana.recall("locker")) == 1
    assert [change.action for change in ana.history(fact.id)] == ["remembered", "forgotten"]
    assert leftovers(db, SECRET, "a private matter", "gym by the sea") == []
    assert ana.forget(fact.id).state == "absent"


def leftovers(db: Path, *sought: str) -> list[str]:
    files = [db, db.with_name(f"{db.name}-wal")]
    raw = b"".join(file.read_bytes() for file in files if file.exists())
    return [text for text in sought if text.encode() in raw]


@pytest.mark.parametrize("keep", [False, True])
def test_a_fact_goes_with_what_says_it_unless_that_is_kept(
    db: Path, ana: ScopedMemory, keep: bool
) -> None:
    say(ana, "m1", "m2", "m3")
    fact = ana.facts.remember(SECRET, message_ids=["m1", "m2"])
    erasure = ana.facts.forget(fact.id, keep_messages=keep)
    assert (erasure.messages, erasure.memories) == ((0, 1) if keep else (2, 3))
    kept = ["something m1 says", "something m2 says"] if keep else []
    assert texts(ana.iter_memories()) == [*kept, "something m3 says"]
    assert leftovers(db, SECRET) == []


def test_forgetting_a_fact_by_its_id_forgets_the_messages_that_say_it(ana: ScopedMemory) -> None:
    say(ana, "m1", "m2")
    fact = ana.facts.remember("Ana drinks tea.", message_ids=["m1"])
    other = ana.facts.remember("Ana is thirsty.", message_ids=["m1", "m2"])
    erasure = ana.forget(fact.id)
    assert (erasure.messages, erasure.memories) == (1, 2)
    left = ana.get(other.id)
    assert left is not None
    assert (left.text, left.message_ids) == ("Ana is thirsty.", ("m2",))


def test_a_fact_goes_when_the_last_message_goes_that_says_it(db: Path, ana: ScopedMemory) -> None:
    say(ana, "m1", "m2")
    fact = ana.facts.remember(SECRET, message_ids=["m1", "m2"])
    assert ana.forget(message_id="m1").memories == 1
    assert ana.get(fact.id) is not None
    erasure = ana.forget(message_id="m2")
    assert (erasure.state, erasure.memories) == ("clean", 2)
    assert ana.get(fact.id) is None
    assert leftovers(db, SECRET) == []
    assert texts(ana.iter_memories()) == []


def test_forgetting_everything_leaves_no_byte_of_a_fact(db: Path, ana: ScopedMemory) -> None:
    ana.facts.remember(SECRET, tags=["a private matter"])
    erasure = ana.forget_everything()
    assert (erasure.state, erasure.memories) == ("clean", 1)
    assert leftovers(db, SECRET, "a private matter") == []


def test_copies_that_a_moving_page_leaves_of_a_fact_are_looked_for(
    ana: ScopedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    fact = ana.facts.remember(SECRET, metadata={"where": "gym by the sea"})
    sought: list[bytes] = []
    ledger = ana._core.ledger

    def look(texts: Any) -> bool:
        sought.extend(texts)
        return False

    monkeypatch.setattr(ledger, "left_over", look)
    assert ana.forget(fact.id).state == "clean"
    assert SECRET.encode() in sought
    assert any(b"gym by the sea" in text for text in sought)


def test_forgetting_a_version_of_an_instruction_leaves_the_others(
    db: Path, ana: ScopedMemory
) -> None:
    rules = ana.procedures
    first = rules.remember(
        "tone", "Be brief, and never mention Rosebud.", reason="Rosebud is secret"
    )
    second = rules.revise("tone", "Be kind.", reason="better")
    erasure = ana.forget(first.id)
    assert (erasure.state, erasure.messages, erasure.memories) == ("clean", 0, 1)
    assert rules.history("tone") == [second]
    assert leftovers(db, "Rosebud") == []
    assert ana.forget(second.id).memories == 1
    assert rules.history("tone") == []


def test_a_reply_taken_up_again_after_its_process_was_given_up_keeps_its_facts(
    ana: ScopedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = ana._core
    buffer = ana.stream(iter(["Lisbon is ", "lovely"]), session="s1", id="r1", every=0.05)
    tokens = iter(buffer)
    next(tokens)
    while not ana._message_page(0, 10):
        pass
    [said] = ana._message_page(0, 10)
    monkeypatch.setattr("mnemic.stores.streaming.STALE_MICROS", 0)
    core.upkeep(now=True, all=True)
    monkeypatch.undo()
    fact = ana.facts.remember("Lisbon is praised.", message_ids=["r1"])
    assert list(tokens) == ["lovely"]
    [whole] = ana._message_page(0, 10)
    assert whole.message.content == "Lisbon is lovely"
    assert said.seq == whole.seq
    assert ana.get(fact.id) == fact


# --- other processes, other scopes ----------------------------------------------------------------


def _remember_elsewhere(db: str) -> None:
    with Memory(db, embedder=FakeEmbedder()) as memory:
        memory.user("ana").facts.remember("Ana drinks tea.")


def test_a_fact_is_found_by_the_next_recall_of_another_process(db: Path, ana: ScopedMemory) -> None:
    ana.facts.remember("Ana has a cat.")
    assert len(ana.facts.recall("tea")) == 1
    process = multiprocessing.get_context("spawn").Process(
        target=_remember_elsewhere, args=(str(db),)
    )
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert ana.facts.recall("tea", limit=1)[0].memory.text == "Ana drinks tea."


def test_the_facts_of_one_user_are_no_one_elses(memory: Memory, ana: ScopedMemory) -> None:
    fact = ana.facts.remember("Ana drinks tea.")
    for other in (memory.user("ben"), memory.agent("ana"), memory.tenant("acme").user("ana")):
        assert other.facts.get(fact.id) is None
        assert other.facts.forget(fact.id).state == "absent"
        assert other.forget(fact.id).state == "absent"
        assert (other.facts.profile(), list(other.facts.iter_facts())) == ([], [])
        assert len(other.facts.recall("tea")) == 0
        say(ana, "m1")
        with pytest.raises(InputError, match="no message"):
            other.facts.remember("Ana drinks tea.", message_ids=["m1"])
    assert ana.get(fact.id) == fact


def test_async_facts_are_the_same(db: Path) -> None:
    from mnemic.aio import AsyncMemory

    async def use() -> None:
        open_memory(db).close()
        async with AsyncMemory(db, embedder=FakeEmbedder()) as memory:
            facts = memory.user("ana").facts
            fact = await facts.remember("Ana drinks tea.", confidence=0.5)
            assert (await facts.recall("tea"))[0].memory == fact
            assert [each async for each in facts.iter_facts()] == await facts.profile() == [fact]

    asyncio.run(use())
