# ruff: noqa: D102  (a test's name says what it demands)
"""The contract of short-term memory, as tests: for the database alone, and with copies elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import SkipTest

from mnemic.errors import IdConflict, InputError
from mnemic.layers.short_term import ShortTermMemory
from mnemic.layers.working.rendering import ChatCounter, to_openai
from mnemic.memory import Memory, ScopedMemory
from mnemic.records import Turn
from mnemic.stores.rows import now_micros
from mnemic.testing.contract import demand, refusal
from mnemic.testing.opening import OpensMemory

__all__ = ["RecentTurnsContract", "expected"]

WRITERS, EACH = 4, 12
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"at":"Ö"}'}}
    ],
}


def expected(
    handle: ScopedMemory,
    session: str,
    *,
    messages: int = 200,
    tokens: int | None = None,
    ttl: timedelta = timedelta(days=2),
    now: datetime | None = None,
) -> list[Turn]:
    """What is recent, worked out from all the rows of a session, the plainest way."""
    now = now or datetime.now(UTC)
    counter, left, turns = ChatCounter(), tokens, list[Turn]()
    for turn in reversed(handle._core.session_rows.tail(handle.scope, session, 100_000)):
        message = turn.message
        if message.expires_at is not None and message.expires_at <= now:
            continue
        if message.recorded_at < now - ttl or len(turns) == messages:
            break
        if left is not None:
            left -= counter.message(to_openai(message))
            if left < 3:
                break
        turns.append(turn)
    return turns[::-1]


def contents(turns: Sequence[Turn]) -> list[str]:
    """What the messages of some turns say."""
    return [turn.message.content for turn in turns]


class RecentTurnsContract(OpensMemory):
    """What people rely on in `ShortTermMemory`, wherever it is kept; a subclass gives `target()`.

    `target()` names a store that is new and empty at every call, `open(target)` opens it with the place for
    recent turns that is under test.
    """

    def test_what_was_added_is_there_in_order(self) -> None:
        with self._new() as memory:
            recent = ShortTermMemory(memory.user("ana"), "s1")
            demand(recent.turns() == [], "of a session that is new, nothing is recent")
            for n in range(12):
                recent.add(f"number {n}")
                demand(
                    contents(recent.turns()) == [f"number {k}" for k in range(n + 1)],
                    "each message must be there as soon as it was added, in order",
                )

    def test_a_turn_is_as_it_was_said(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            recent = ShortTermMemory(ana, "sé\u202e/ {s}")
            for message in (
                {"role": "system", "content": "Sei höflich. 漢字 \U0001f9e0"},
                {"content": "said before", "said_at": "1969-07-20T20:17:40Z", "name": "Ana María"},
                {"content": "labelled", "tags": ["a", "b"], "metadata": {"x": [1, None, 2.5, "é"]}},
                {"content": [{"type": "text", "text": "see"}, {"type": "image", "url": "u"}]},
                CALL,
                {"role": "tool", "tool_call_id": "c1", "content": "17 °C\n\n"},
                {"content": "in an hour", "expires_at": datetime.now(UTC) + timedelta(hours=1)},
                {"content": "x" * 300_000},
            ):
                recent.add(message)
                recent.turns()
            demand(
                recent.turns() == expected(ana, recent.session),
                "a turn must come out with all that it was given, to the letter and the microsecond",
            )
            demand(
                [message["role"] for message in recent.messages()]
                == ["system", "user", "user", "user", "assistant", "tool", "user", "user"],
                "and rendered for an API, the result beside its call",
            )

    def test_the_newest_within_the_budgets_are_kept(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            few = ShortTermMemory(ana, "s1", max_messages=5)
            small = ShortTermMemory(ana, "s1", max_tokens=60)
            both = ShortTermMemory(ana, "s1", max_messages=3, max_tokens=200, counter="cl100k_base")
            mine = ShortTermMemory(ana, "s1", max_tokens=60, counter=ChatCounter().text)
            every = ShortTermMemory(ana, "s1")
            for n in range(30):
                (few, small, both, mine, every)[n % 5].add(f"{n} " + "word " * (n % 7))
                demand(few.turns() == expected(ana, "s1", messages=5), f"5 messages, after {n}")
                wanted = expected(ana, "s1", tokens=60)
                demand(small.turns() == wanted, f"60 tokens, after {n}: {contents(small.turns())}")
                demand(mine.turns() == wanted, f"60 tokens by a counter without a name, after {n}")
                demand(both.turns() == expected(ana, "s1", messages=3), f"3 messages, after {n}")
                demand(every.turns() == expected(ana, "s1"), f"all, after {n}")
                size = ChatCounter().messages(small.messages())
                demand(size <= 60, f"counted as they are sent, they come to {size} of 60 tokens")

    def test_one_larger_than_the_budget_ends_what_is_recent(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            recent = ShortTermMemory(ana, "s1", max_tokens=50)
            for text in ("before", "word " * 100, "after"):
                recent.add(text)
                recent.turns()
            demand(contents(recent.turns()) == ["after"], f"there is no gap: {recent.turns()}")
            recent.add("word " * 100)
            demand(recent.turns() == [], "and the budget holds also for the newest")

    def test_what_is_older_than_its_ttl_is_not_recent(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            hour = ShortTermMemory(ana, "s1", ttl=timedelta(hours=1))
            day = ShortTermMemory(ana, "s1", ttl=timedelta(days=1))
            day.add({"content": "said long ago", "said_at": "2001-01-01T00:00:00Z"})
            demand(
                contents(hour.turns()) == ["said long ago"],
                "a message is as old as its recording: when it was said is the caller's word",
            )
            for hours, (recently, today) in {0.99: (1, 1), 1.01: (0, 1), 24.1: (0, 0)}.items():
                _set_clock(memory, hours)
                found = (len(hour.turns()), len(day.turns()))
                demand(found == (recently, today), f"after {hours} hours: {found}")

    def test_what_has_expired_is_not_served(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            recent = ShortTermMemory(ana, "s1", max_messages=3)
            soon = datetime.now(UTC) + timedelta(hours=1)
            for n in range(4):
                recent.add({"content": f"{n}", "expires_at": soon if n % 2 else None})
            demand(contents(recent.turns()) == ["1", "2", "3"], f"until then: {recent.turns()}")
            _set_clock(memory, 1.01)
            demand(
                contents(recent.turns()) == ["0", "2"],
                f"what has expired counts for nothing, older ones take its place: {recent.turns()}",
            )

    def test_what_did_not_fit_makes_room_once_it_has_expired(self) -> None:
        with self._new() as memory:
            recent = ShortTermMemory(memory.user("ana"), "s1", max_tokens=50)
            soon = datetime.now(UTC) + timedelta(hours=1)
            recent.add("small")
            recent.add({"content": "large " * 60, "expires_at": soon})
            for text in ("one", "two"):
                recent.add(text)
                recent.turns()
            demand(contents(recent.turns()) == ["one", "two"], f"until then: {recent.turns()}")
            _set_clock(memory, 1.01)
            found = contents(recent.turns())
            demand(found == ["small", "one", "two"], f"what was before it is recent again: {found}")

    def test_scopes_and_sessions_are_apart(self) -> None:
        with self._new() as memory:
            handles = {
                "ana": memory.user("ana"),
                "agent": memory.agent("ana"),
                "acme": memory.tenant("acme").user("ana"),
                "ben": memory.user("ben"),
            }
            places = [
                (f"{name} in {session}", ShortTermMemory(handle, session))
                for name, handle in handles.items()
                for session in ("s1", "s2", "S1", "s1 ")
            ]
            for turn in range(3):
                for name, recent in places:
                    recent.add(f"{name} {turn}")
                for name, recent in places:
                    wanted = [f"{name} {n}" for n in range(turn + 1)]
                    demand(contents(recent.turns()) == wanted, f"{name}: {recent.turns()}")
            handles["ana"].forget_everything()
            for name, recent in places:
                there = len(recent.turns())
                demand(there == (0 if name.startswith("ana ") else 3), f"{name} has {there} turns")

    def test_a_write_that_did_not_come_by_here_is_seen_at_once(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            recent = ShortTermMemory(ana, "s1")
            recent.add("one")
            recent.turns()
            ana.remember(["two", "three"], session="s1")
            demand(contents(recent.turns()) == ["one", "two", "three"], f"{recent.turns()}")
            [id] = ana.remember("four", session="s1").memory_ids
            recent.add("five")
            recent.turns()
            ana.forget(id)
            wanted = ["one", "two", "three", "five"]
            demand(contents(recent.turns()) == wanted, f"nor is one forgotten: {recent.turns()}")
            ana.forget_session("s1")
            demand(recent.turns() == [], "of a forgotten session nothing is recent")
            recent.add("anew")
            demand(contents(recent.turns()) == ["anew"], "and it may begin anew")

    def test_a_reply_under_way_is_seen_as_it_stands(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            recent = ShortTermMemory(ana, "s1")
            recent.add("a question")
            with ana.stream(iter(["It ", "goes ", "on."]), session="s1") as reply:
                for _ in reply:
                    recent.turns()
            demand(contents(recent.turns()) == ["a question", "It goes on."], f"{recent.turns()}")
            demand(recent.turns() == expected(ana, "s1"), "the whole of it, once it is over")

    def test_both_of_two_memories_see_what_either_wrote(self) -> None:
        with self._two() as both:
            recents = [ShortTermMemory(memory.user("ana"), "s1") for memory in both]
            for n in range(10):
                recents[n % 3 % 2].add(f"number {n}")
                for recent in recents:
                    found = contents(recent.turns())
                    demand(found == [f"number {k}" for k in range(n + 1)], f"after {n}: {found}")
            both[0].user("ana").forget_session("s1")
            demand(recents[1].turns() == [], "what one forgot, the other doesn't tell")

    def test_writers_at_once_lose_nothing(self) -> None:
        with self._two() as both:

            def write(number: int) -> None:
                recent = ShortTermMemory(both[number % 2].user("ana"), "s1")
                for n in range(EACH):
                    text = f"writer {number} says {n}"
                    recent.add(text)
                    found = contents(recent.turns())
                    demand(text in found, f"a writer must see its own word at once: {text}")
                    mine = [said for said in found if said.startswith(f"writer {number} ")]
                    demand(len(mine) == n + 1, f"and all its earlier ones: {mine}")

            with ThreadPoolExecutor(WRITERS) as pool:
                list(pool.map(write, range(WRITERS)))
            for memory in both:
                ana = memory.user("ana")
                turns = ShortTermMemory(ana, "s1").turns()
                demand(turns == expected(ana, "s1"), "in the end all must have the same")
                demand(len(turns) == WRITERS * EACH, f"{WRITERS * EACH} are due, not {len(turns)}")

    def test_clearing_takes_nothing_away(self) -> None:
        with self._new() as memory:
            recent = ShortTermMemory(memory.user("ana"), "s1")
            for n in range(3):
                recent.add(f"number {n}")
                recent.clear()
                demand(len(recent.turns()) == n + 1, "the database keeps what was said")

    def test_a_result_never_stands_without_its_call(self) -> None:
        with self._new() as memory:
            recent = ShortTermMemory(memory.user("ana"), "s1", max_messages=2)
            result = {"role": "tool", "tool_call_id": "c1", "content": "17 °C"}
            for message in ("Weather?", CALL, result, "Thanks."):
                recent.add(message)
            roles = [message["role"] for message in recent.messages()]
            demand(roles == ["user"], f"its call isn't recent any more: {roles}")
            demand(len(recent.turns()) == 2, "as turns, all are there as they were said")

    def test_bad_input_is_refused_and_changes_nothing(self) -> None:
        with self._new() as memory:
            ana = memory.user("ana")
            recent = ShortTermMemory(ana, "s1")
            recent.add({"id": "m1", "content": "one"})
            bad: list[Any] = ["", " ", None, 7, ["a", "b"], {"content": "x", "session": "s2"}]
            for given in bad:
                with refusal(InputError, f"{given!r} is no message of this session"):
                    recent.add(given)
            with refusal(IdConflict, "an id that is in use stays with what it was used for"):
                recent.add({"id": "m1", "content": "another"})
            recent.add({"id": "m1", "content": "one", "session": "s1"})
            demand(contents(recent.turns()) == ["one"], f"nothing came of it: {recent.turns()}")
            wrong: list[dict[str, Any]] = [
                *({"ttl": timedelta(**{unit: n})} for unit, n in (("seconds", 59), ("days", 31))),
                *({"ttl": value} for value in (0, "2 days", None, timedelta(days=-1))),
                *({"max_messages": value} for value in (0, -1, 1_001, 2.0, True, None, "9")),
                *({"max_tokens": value} for value in (0, 9, 1e9, "100", False)),
                *({"counter": value} for value in ("gpt2", "", None, 7)),
            ]
            for options in wrong:
                with refusal(InputError, f"{options} can't be used"):
                    ShortTermMemory(ana, "s1", **options)
            names: list[Any] = ["", " ", None, 7, "a\0", "x" * 513]
            for name in names:
                with refusal(InputError, f"{name!r} names no session"):
                    ShortTermMemory(ana, name)

    @contextmanager
    def _two(self) -> Iterator[tuple[Memory, Memory]]:
        if not self.opens_twice:
            raise SkipTest("opens_twice is False: this store has one process at a time")
        target = self.target()
        with self.open(target) as one, self.open(target) as other:
            yield one, other


def _set_clock(memory: Memory, hours: float) -> None:
    """Let it be so many hours later."""
    memory._core.turns.clock = lambda: now_micros() + int(hours * 3_600_000_000)
