"""A session within a number of tokens, of messages, or of turns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from mnemic import BudgetTooSmall, ContextWindow, InputError, Memory, SlidingWindowMemory
from mnemic.layers.working import conversation as conversations_seen
from mnemic.layers.working.rendering import CUT, to_openai
from mnemic.memory import ScopedMemory
from mnemic.models.tokens import count_tokens
from tests.fakes import new_memory, open_memory
from tests.layers.talk import Said, call, check_accepted, contents, conversations, counted
from tests.layers.test_sensory import until

pytestmark = pytest.mark.usefixtures("tokens_ready")

MINUTE = timedelta(minutes=1)
STORY = "I saw a red boat. " * 400


def tool(id: str, content: str = "42") -> Said:
    return {"role": "tool", "tool_call_id": id, "content": content}


def calls(*ids: str, content: str = "") -> Said:
    return {"role": "assistant", "content": content, "tool_calls": [call(id) for id in ids]}


def system(content: str = "You are kind.") -> Said:
    return {"role": "system", "content": content}


@contextmanager
def statements(memory: Memory) -> Iterator[list[str]]:
    """The SQL that is run meanwhile."""
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    engine = memory._core.database.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


# --- the faults of the guide's ContextWindowManager -------------------------------------------------


def test_roles_names_and_calls_are_counted_as_they_are_sent(ana: ScopedMemory) -> None:
    window = ContextWindow(ana, "s1", max_tokens=1_000, reserve=0)
    window.add(system())
    window.add({"role": "user", "name": "Ana", "content": "Hi"})
    window.add(calls("c1"))
    window.add(tool("c1"))
    sent = window.messages()
    assert window.tokens == counted(sent)
    assert window.tokens > sum(count_tokens(m["content"] or "") for m in sent) + 20
    assert window.remaining == 1_000 - window.tokens


def test_the_system_message_is_never_the_one_that_goes(ana: ScopedMemory) -> None:
    window = ContextWindow(ana, "s1", max_tokens=60, reserve=10)
    window.add(system())
    for n in range(50):
        window.add(f"Message number {n}.")
        assert window.messages()[0] == system()
    assert window.messages()[-1]["content"] == "Message number 49."


def test_a_call_is_never_parted_from_its_results(ana: ScopedMemory) -> None:
    ana.remember(
        ["Look!", calls("a", "b"), tool("a"), tool("b"), {"role": "assistant", "content": "Done."}],
        session="s1",
    )
    whole = ContextWindow(ana, "s1", max_tokens=1_000, reserve=0)
    assert [m["role"] for m in whole.messages()] == [
        "user",
        *["assistant", "tool", "tool"],
        "assistant",
    ]
    for most in range(5, whole.tokens):
        sent = ContextWindow(ana, "s1", max_tokens=most, reserve=0).messages()
        check_accepted(sent)
        assert counted(sent) <= most


def test_a_message_more_costs_the_same_at_the_hundredth_and_the_three_thousandth(
    memory: Memory, ana: ScopedMemory
) -> None:
    window = ContextWindow(ana, "s1", max_tokens=200, reserve=0)
    costs = []
    for size in (100, 3_000):
        said = [f"Message {n} of {size}." for n in range(size)]
        ana.remember(said, session="s1")
        window.messages()
        with statements(memory) as seen:
            window.add(f"One more than {size}.")
        added = list(seen)
        counted_texts: list[str] = []
        with statements(memory) as seen, counting(window, counted_texts):
            window.messages()
        costs.append((added, list(seen), len(counted_texts)))
    assert costs[0] == costs[1]
    assert not [s for s in costs[0][0] if s.startswith("SELECT") and "ORDER BY" in s]


@contextmanager
def counting(window: ContextWindow, texts: list[str]) -> Iterator[None]:
    """The texts that a window counts meanwhile."""
    counter = window._sizes.counter
    count = counter._count
    counter._count = lambda text: texts.append(text) or count(text)  # type: ignore[func-returns-value]
    try:
        yield
    finally:
        counter._count = count


def test_every_reading_goes_by_an_index(ana: ScopedMemory, memory: Memory, db: Path) -> None:
    ana.remember([system(), *map(str, range(40))], session="s1")
    with statements(memory) as seen:
        ContextWindow(ana, "s1", max_tokens=200, reserve=0).messages()
        SlidingWindowMemory(ana, "s1").messages()
    reading = {s for s in seen if "messages" in s and s.startswith("SELECT")}
    assert len(reading) >= 3
    with memory._core.database.read() as connection:
        for statement in reading:
            marks = (b"0" * 16, *["s1"] * (statement.count("?") - 1))
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", marks)
            steps = [row[3] for row in plan]
            assert all("USING INDEX messages_" in step for step in steps), steps


def test_a_message_is_counted_once(ana: ScopedMemory) -> None:
    window = ContextWindow(ana, "s1", max_tokens=1_000, reserve=0)
    ana.remember([f"Message {n}." for n in range(30)], session="s1")
    texts: list[str] = []
    with counting(window, texts):
        window.messages()
        first = len(texts)
        assert first >= 60
        window.messages()
        assert len(texts) == first
        window.add("One more.")
        window.messages()
    assert texts[first:] == ["user", "One more."]


# --- what stays -----------------------------------------------------------------------------------


def test_the_same_system_message_stays_once(ana: ScopedMemory) -> None:
    window = ContextWindow(ana, "s1")
    for said in (system(), "Hi", system("Be brief."), system(), "Hello"):
        window.add(said)
    assert contents(window.messages()) == ["You are kind.", "Be brief.", "Hi", "Hello"]


def test_system_messages_that_do_not_fit_are_refused_with_what_is_needed(ana: ScopedMemory) -> None:
    ana.remember([system(STORY), "Hi"], session="s1")
    with pytest.raises(BudgetTooSmall, match="system messages") as caught:
        ContextWindow(ana, "s1", max_tokens=100, reserve=20).messages()
    needed = caught.value.needed
    assert needed == counted([system(STORY)]) + 20
    window = ContextWindow(ana, "s1", max_tokens=needed, reserve=20)
    assert window.messages() == [system(STORY)]
    with pytest.raises(BudgetTooSmall):
        ContextWindow(ana, "s1", max_tokens=needed - 1, reserve=20).messages()


def test_the_users_latest_message_stays_though_a_result_is_larger_than_the_window(
    ana: ScopedMemory,
) -> None:
    ana.remember(
        [system(), "How many boats are there?", calls("a"), tool("a", STORY)], session="s1"
    )
    window = ContextWindow(ana, "s1", max_tokens=150, reserve=0)
    sent = window.messages()
    assert [m["role"] for m in sent] == ["system", "user", "assistant", "tool"]
    assert sent[1]["content"] == "How many boats are there?"
    assert sent[3]["content"].startswith("I saw a red boat.")
    assert sent[3]["content"].endswith(f"boat.{CUT}")
    assert 130 < counted(sent) == window.tokens <= 150


def test_the_users_latest_message_stays_behind_many_results(ana: ScopedMemory) -> None:
    ana.remember("Count the boats.", session="s1")
    for n in range(100):
        ana.remember([calls(f"c{n}"), tool(f"c{n}", f"Boat {n}")], session="s1")
    sent = ContextWindow(ana, "s1", max_tokens=300, reserve=0).messages()
    assert sent[0] == {"role": "user", "content": "Count the boats."}
    assert sent[-1]["content"] == "Boat 99"
    assert len(sent) > 7
    check_accepted(sent)


def test_a_message_larger_than_the_window_is_cut_at_a_sentence_and_marked(
    ana: ScopedMemory,
) -> None:
    window = ContextWindow(ana, "s1", max_tokens=100, reserve=0)
    window.add(STORY)
    (sent,) = window.messages()
    assert sent["content"].endswith(f"I saw a red boat.{CUT}")
    assert 80 < window.tokens <= 100
    window.add({"role": "assistant", "content": "Lovely."})
    first, second = window.messages()
    assert first["content"].endswith(f"I saw a red boat.{CUT}")
    assert second["content"] == "Lovely."
    # Nothing was lost.
    assert next(ana.iter_memories()).text.startswith("I saw a red boat.")
    assert ana._core.session_rows.tail(ana.scope, "s1", 9)[0].message.content == STORY


def test_results_share_what_room_there_is(ana: ScopedMemory) -> None:
    ana.remember([calls("a", "b"), tool("a", STORY), tool("b", "Short.")], session="s1")
    made, first, second = ContextWindow(ana, "s1", max_tokens=150, reserve=0).messages()
    assert len(made["tool_calls"]) == 2
    assert first["content"].endswith(CUT)
    assert second["content"] == "Short."


def test_an_image_that_does_not_fit_makes_way_for_the_words(ana: ScopedMemory) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "QUJD" * 2_000}}
    window = ContextWindow(ana, "s1", max_tokens=60, reserve=0)
    window.add({"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]})
    assert window.messages() == [{"role": "user", "content": f"What is it?{CUT}"}]


def test_what_is_reserved_stays_free(ana: ScopedMemory) -> None:
    ana.remember([f"Message number {n}." for n in range(100)], session="s1")
    window = ContextWindow(ana, "s1", max_tokens=300, reserve=100)
    assert counted(window.messages()) == window.tokens <= 200
    assert window.remaining == 200 - window.tokens
    assert window.dropped == 100 - len(window.messages())
    assert ContextWindow(ana, "s1", max_tokens=400).reserve == 100
    assert ContextWindow(ana, "s1").reserve == 4_096


def test_an_empty_session_gives_an_empty_window(ana: ScopedMemory) -> None:
    window = ContextWindow(ana, "nobody was here")
    assert (window.messages(), window.tokens, window.dropped) == ([], 3, 0)
    assert SlidingWindowMemory(ana, "s1").messages() == []


def test_any_counter_is_taken(ana: ScopedMemory) -> None:
    ana.remember([f"Message {n}" for n in range(9)], session="s1")
    words = ContextWindow(ana, "s1", max_tokens=21, reserve=0, counter=lambda t: len(t.split()))
    assert contents(words.messages()) == ["Message 6", "Message 7", "Message 8"]
    old = ContextWindow(ana, "s1", counter="cl100k_base")
    assert len(old.messages()) == 9


# --- sharing --------------------------------------------------------------------------------------


def test_windows_of_several_memories_see_each_others_messages(db: Path) -> None:
    with open_memory(db) as one, open_memory(db) as two:
        here, there = (ContextWindow(each.user("ana"), "s1") for each in (one, two))
        here.add("Hello")
        assert contents(there.messages()) == ["Hello"]
        there.add("Goodbye")
        assert contents(here.messages()) == ["Hello", "Goodbye"]
        two.user("ana").forget_session("s1")
        assert here.messages() == []


def test_what_was_forgotten_is_in_no_window(ana: ScopedMemory) -> None:
    window = ContextWindow(ana, "s1")
    window.add({"role": "user", "content": "My PIN is 4711.", "id": "pin"})
    window.add("Hello")
    assert len(window.messages()) == 2
    ana.forget(message_id="pin")
    assert contents(window.messages()) == ["Hello"]


def test_an_expired_message_leaves_the_window(
    ana: ScopedMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon = datetime.now(UTC) + MINUTE
    window = ContextWindow(ana, "s1")
    window.add({"role": "user", "content": "For a minute.", "expires_at": soon})
    window.add("For ever.")
    assert len(window.messages()) == 2

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Later:
            return cls.fromtimestamp(soon.timestamp() + 1, tz)

    from mnemic.stores import sessions

    monkeypatch.setattr(conversations_seen, "datetime", Later)
    monkeypatch.setattr(sessions, "now_micros", lambda: int((soon.timestamp() + 1) * 1e6))
    assert contents(window.messages()) == ["For ever."]


def test_a_reply_that_is_still_being_said_is_shown_as_far_as_it_came(ana: ScopedMemory) -> None:
    window = ContextWindow(ana, "s1")
    window.add("Hi")
    assert len(window.messages()) == 1
    reading = iter(ana.stream(["Hello", " there."], session="s1", every=0.05))
    next(reading)
    until(lambda: contents(window.messages()) == ["Hi", f"Hello{CUT}"])
    next(reading)
    until(lambda: contents(window.messages()) == ["Hi", f"Hello there.{CUT}"])
    assert list(reading) == []
    assert contents(window.messages()) == ["Hi", "Hello there."]


def test_what_a_window_gives_is_the_callers_own(ana: ScopedMemory) -> None:
    ana.remember([calls("a", content="Let me look."), tool("a")], session="s1")
    window = ContextWindow(ana, "s1")
    sent = window.messages()
    sent[0]["tool_calls"][0]["function"]["name"] = "changed"
    sent.clear()
    assert window.messages()[0]["tool_calls"][0]["function"]["name"] == "look"


# --- the last messages or turns -------------------------------------------------------------------


def test_a_sliding_window_keeps_the_system_message(ana: ScopedMemory) -> None:
    sliding = SlidingWindowMemory(ana, "s1", last=2)
    for said in (system(), "One", "Two", "Three"):
        sliding.add(said)
    assert contents(sliding.messages()) == ["You are kind.", "Two", "Three"]


def test_a_sliding_window_never_begins_with_an_orphan_result(ana: ScopedMemory) -> None:
    ana.remember([calls("a", "b"), tool("a"), tool("b"), "Thanks", "Bye"], session="s1")
    roles = {
        last: [m["role"] for m in SlidingWindowMemory(ana, "s1", last=last).messages()]
        for last in range(1, 6)
    }
    assert roles[4] == roles[3] == roles[2] == ["user", "user"]
    assert roles[5] == ["assistant", "tool", "tool", "user", "user"]


def test_a_call_with_more_results_than_messages_are_wanted_stays_whole(ana: ScopedMemory) -> None:
    ana.remember(["Look!", calls("a", "b"), tool("a"), tool("b")], session="s1")
    sent = SlidingWindowMemory(ana, "s1", last=2).messages()
    assert [m["role"] for m in sent] == ["assistant", "tool", "tool"]


def test_a_turn_is_what_the_user_says_and_all_that_follows(ana: ScopedMemory) -> None:
    done = {"role": "assistant", "content": "Done."}
    ana.remember(["One", calls("a"), tool("a"), done, "Two", done, "Three"], session="s1")
    turns = [
        contents(SlidingWindowMemory(ana, "s1", last=n, unit="turns").messages()) for n in (1, 2)
    ]
    assert turns == [["Three"], ["Two", "Done.", "Three"]]
    assert len(SlidingWindowMemory(ana, "s1", last=3, unit="turns").messages()) == 7
    assert len(SlidingWindowMemory(ana, "s1", last=9, unit="turns").messages()) == 7


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given_",
    [
        {"max_tokens": 0},
        {"max_tokens": True},
        {"max_tokens": 1.5},
        {"max_tokens": 10**12},
        {"reserve": -1},
        {"max_tokens": 10, "reserve": 10},
        {"counter": "words"},
    ],
)
def test_a_window_that_cannot_be_is_refused(ana: ScopedMemory, given_: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        ContextWindow(ana, "s1", **given_)


def test_other_wrong_input_is_refused_and_nothing_is_added(ana: ScopedMemory) -> None:
    wrong: Any = "ana"
    for kind in (ContextWindow, SlidingWindowMemory):
        with pytest.raises(InputError, match="memory"):
            kind(wrong, "s1")
        with pytest.raises(InputError, match="session"):
            kind(ana, " ")
        window = kind(ana, "s1")
        for message in (5, None, [], ["Hi"], "", {"role": "robot", "content": "Hi"}):
            with pytest.raises(InputError):
                window.add(message)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="leave its session out"):
            window.add({"role": "user", "content": "Hi", "session": "s2"})
        assert window.messages() == []
    for last in (0, -1, True, 2.5):
        with pytest.raises(InputError, match="last"):
            SlidingWindowMemory(ana, "s1", last=last)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="unit"):
        SlidingWindowMemory(ana, "s1", unit="words")  # type: ignore[arg-type]


# --- whatever was said ----------------------------------------------------------------------------


def system_of(ana: ScopedMemory) -> list[Said]:
    """The system's messages of a session as they are sent, each once."""
    rows = ana._core.session_rows.system(ana.scope, "s1")
    told: list[Said] = []
    for turn in rows:
        sent = to_openai(turn.message)
        told += [sent] if sent not in told else []
    return told


@given(conversations(), st.integers(1, 2_000), st.integers(0, 300))
def test_a_window_keeps_its_promises(said: list[Said], most: int, reserve: int) -> None:
    reserve = min(reserve, most - 1)
    with new_memory() as memory:
        ana = memory.user("ana")
        ana.remember(said, session="s1")
        window = ContextWindow(ana, "s1", max_tokens=most, reserve=reserve)
        told = system_of(ana)
        frame = counted(told)
        if frame > most - reserve:
            with pytest.raises(BudgetTooSmall) as caught:
                window.messages()
            most = caught.value.needed
            window = ContextWindow(ana, "s1", max_tokens=most, reserve=reserve)
        sent = window.messages()
        assert counted(sent) == window.tokens <= most - reserve
        check_accepted(sent, may_end_open=True)
        assert sent[: len(told)] == told
        assert "system" not in [m["role"] for m in sent[len(told) :]]
        asked = ana._core.session_rows.latest(ana.scope, "s1", "user")
        if asked is not None:
            alone = [*sent[: len(told)], to_openai(asked.message)]
            assert counted(alone) > most - reserve or alone[-1] in sent


@given(conversations(), st.integers(1, 12), st.sampled_from(["messages", "turns"]))
def test_a_sliding_window_keeps_its_promises(said: list[Said], last: int, unit: Any) -> None:
    with new_memory() as memory:
        ana = memory.user("ana")
        ana.remember(said, session="s1")
        sent = SlidingWindowMemory(ana, "s1", last=last, unit=unit).messages()
        told = system_of(ana)
    check_accepted(sent, may_end_open=True)
    assert sent[: len(told)] == told
    rest = sent[len(told) :]
    if unit == "messages":
        one_call = bool(rest) and all(m["role"] in ("tool", "function") for m in rest[1:])
        assert len(rest) <= last or one_call
    else:
        assert len([m for m in rest if m["role"] == "user"]) <= last


def test_sessions_are_listed_the_last_spoken_in_first(memory: Memory, ana: ScopedMemory) -> None:
    assert ana.sessions() == []
    for name in ("s1", "s2", "s1"):
        ana.remember(f"I spoke in {name} again.", session=name)
    ana.remember("Nowhere.")
    memory.user("bob").remember("Mine.", session="s3")
    assert [session.name for session in ana.sessions()] == ["", "s1", "s2"]
    assert [session.name for session in ana.sessions(limit=1)] == [""]
    first = ana.sessions()[1]
    assert first.started_at < first.last_at
    ana.forget_session("s1")
    assert [session.name for session in ana.sessions()] == ["", "s2"]
    for limit in (0, -1, True, 1.5, 10**9):
        with pytest.raises(InputError):
            ana.sessions(limit)  # type: ignore[arg-type]
