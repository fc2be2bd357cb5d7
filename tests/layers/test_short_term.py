"""Short-term memory, in the database alone and with a real Valkey beside it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnemic import InputError, Memory, MissingExtra, ScopedMemory, ShortTermMemory
from mnemic.models.embedder import Embedder
from mnemic.records import Scope, Turn
from mnemic.settings import Settings, from_environment
from mnemic.stores import redis_link, redis_turns
from mnemic.stores.redis_link import Link, read_url
from mnemic.stores.redis_turns import RedisTurns
from mnemic.stores.rows import now_micros
from mnemic.stores.turns import Limits, TurnRows
from mnemic.testing import FakeEmbedder, RecentTurnsContract, failures
from mnemic.testing.opening import Target
from mnemic.testing.turns import contents, expected
from tests.core.test_processes import in_child, needs_fork
from tests.fakes import environment, new_folder, open_memory
from tests.layers.valkey import Valkey, wait_for

SECRET = "My PIN is 4711, don't tell."


def opened(path: Target, url: str | None = None) -> Memory:
    """A memory with a fake embedder; with its recent turns copied to what a URL names."""
    settings = Settings(short_term_url=url)
    return Memory(path, embedder=FakeEmbedder(), settings=settings)


def copies_of(memory: Memory) -> RedisTurns:
    turns = memory._core.turns
    assert isinstance(turns, RedisTurns)
    return turns


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with Valkey() as started:
        yield started


@pytest.fixture
def valkey(server: Valkey) -> Valkey:
    """A server for those tests that leave it running; empty."""
    server.client.flushall()
    return server


@pytest.fixture
def frail() -> Iterator[Valkey]:
    """A server of the test's own, which may be killed."""
    with Valkey() as started:
        yield started


@pytest.fixture(autouse=True)
def counting(tokens_ready: None) -> None:
    pass


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = tmp_path / "memory.db"
    open_memory(path).close()
    return path


@pytest.fixture
def memory(db: Path, valkey: Valkey) -> Iterator[Memory]:
    with opened(db, valkey.url) as made:
        yield made


@pytest.fixture
def ana(memory: Memory) -> ScopedMemory:
    return memory.user("ana")


@pytest.fixture
def recent(ana: ScopedMemory) -> ShortTermMemory:
    return ShortTermMemory(ana, "s1")


# --- the contract ---------------------------------------------------------------------------------


class InFolder(RecentTurnsContract):
    """Stores in a folder of the test's own."""

    url: str | None = None

    @pytest.fixture(autouse=True)
    def in_folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        self.numbers = count()

    def target(self) -> Target:
        return self.folder / f"memory {next(self.numbers)}.db"

    def open(self, target: Target, embedder: Embedder | None = None) -> Memory:
        return opened(target, self.url)


class TestInTheDatabase(InFolder):
    pass


class TestInValkey(InFolder):
    @pytest.fixture(autouse=True)
    def beside(self, valkey: Valkey) -> None:
        self.url = valkey.url


class TestInValkeyThatNobodyReaches(InFolder):
    """Without the server, everything is as with it, from the database."""

    @pytest.fixture(autouse=True)
    def beside(self) -> None:
        self.url = "redis://127.0.0.1:1/0"


class _Late(TurnRows):
    """Misses the newest."""

    def recent(self, scope: Scope, session: str, limits: Limits) -> list[Turn]:
        return super().recent(scope, session, limits)[:-1]


class _Open(TurnRows):
    """Keeps to no budget."""

    def recent(self, scope: Scope, session: str, limits: Limits) -> list[Turn]:
        return super().recent(scope, session, Limits(1_000, limits.ttl))


class _Ageless(TurnRows):
    """Nothing is too old."""

    def recent(self, scope: Scope, session: str, limits: Limits) -> list[Turn]:
        self.clock = now_micros
        return super().recent(scope, session, limits)


class _Stale(TurnRows):
    """Knows what it read once."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.known: dict[tuple[bytes, str, int], list[Turn]] = {}

    def recent(self, scope: Scope, session: str, limits: Limits) -> list[Turn]:
        key = (scope.key, session, limits.messages)
        if key not in self.known:
            self.known[key] = super().recent(scope, session, limits)
        return self.known[key]


class _Mixed(TurnRows):
    """Takes one scope's for another's."""

    def recent(self, scope: Scope, session: str, limits: Limits) -> list[Turn]:
        return super().recent(Scope(scope.tenant, "user", "ana"), session, limits)


@pytest.mark.parametrize("broken", [_Late, _Open, _Ageless, _Stale, _Mixed])
def test_what_is_broken_does_not_get_past_the_contract(
    broken: type[TurnRows], tmp_path: Path
) -> None:
    numbers = count()

    class Broken(RecentTurnsContract):
        def target(self) -> Target:
            path = tmp_path / f"{next(numbers)}.db"
            open_memory(path).close()
            return path

        def open(self, target: Target, embedder: Embedder | None = None) -> Memory:
            memory = opened(target)
            memory._core.turns = broken(memory._core.database)
            return memory

    assert failures(Broken)


# --- whatever happens, it is what the rows say ----------------------------------------------------

WORDS = st.sampled_from(["short", "a little longer than that", "long " * 40, "ünï 漢字 " * 9])
ACTS = st.sampled_from("add add add remember forget wipe stream clear flush expires ben".split())
READERS: tuple[dict[str, Any], ...] = (
    {"max_messages": 4},
    {"max_messages": 50},
    {"max_messages": 50, "max_tokens": 60},
    {"max_messages": 6, "max_tokens": 120},
    {"max_messages": 50, "max_tokens": 60, "counter": "cl100k_base"},
    {"max_messages": 50, "ttl": timedelta(days=9)},
)


@dataclass
class World:
    """Two memories on one store, one of them without copies, and what is done to them."""

    both: list[Memory]
    valkey: Valkey

    def do(self, act: str, which: int, words: str, reader: int) -> None:
        ana = self.both[which].user("ana")
        recent = ShortTermMemory(ana, "s1", **READERS[reader])
        soon = datetime.now(UTC) + timedelta(hours=1)
        acts: dict[str, Callable[[], object]] = {
            "add": lambda: recent.add(words),
            "expires": lambda: recent.add({"content": words, "expires_at": soon}),
            "remember": lambda: ana.remember([words, words + "!"], session="s1"),
            "forget": lambda: self.forget(ana, recent.turns()),
            "wipe": lambda: ana.forget_session("s1"),
            "stream": lambda: self.stream(ana, recent, words.split()),
            "clear": recent.clear,
            "flush": self.valkey.client.flushall,
            "ben": lambda: ShortTermMemory(self.both[which].user("ben"), "s1").add(f"ben: {words}"),
        }
        acts[act]()

    def forget(self, ana: ScopedMemory, turns: list[Turn]) -> None:
        if turns:
            ana.forget(message_id=turns[len(turns) // 2].message.id, session="s1")

    def stream(self, ana: ScopedMemory, recent: ShortTermMemory, words: list[str]) -> None:
        with ana.stream(iter(words), session="s1", every=0.05) as reply:
            for _ in reply:
                recent.turns()


@given(
    steps=st.lists(
        st.tuples(ACTS, st.integers(0, 2), WORDS, st.integers(0, 5), st.integers(0, 5)),
        min_size=3,
        max_size=25,
    )
)
def test_whatever_happens_what_is_recent_is_what_the_rows_say(
    server: Valkey, steps: list[tuple[str, int, str, int, int]]
) -> None:
    server.client.flushall()
    with new_folder() as folder, ExitStack() as stack:
        open_memory(folder / "memory.db").close()
        urls = (server.url, None, server.url)
        both = [stack.enter_context(opened(folder / "memory.db", url)) for url in urls]
        world = World(both, server)
        for act, which, words, writes, reads in steps:
            world.do(act, which, words, writes)
            for memory in both:
                for name in ("ana", "ben"):
                    check(memory.user(name), READERS[reads])


def check(handle: ScopedMemory, reader: dict[str, Any]) -> None:
    found = ShortTermMemory(handle, "s1", **reader).turns()
    options = {"max_messages": "messages", "max_tokens": "tokens", "ttl": "ttl"}
    named = {options[key]: value for key, value in reader.items() if key != "counter"}
    if reader.get("counter") is None:
        assert found == expected(handle, "s1", **named)
    else:
        most = expected(handle, "s1", messages=reader["max_messages"])
        assert found == most[len(most) - len(found) :]


# --- when the copy serves -------------------------------------------------------------------------


class Counting:
    """Counts how often the rows of messages are read."""

    def __init__(self, memory: Memory) -> None:
        self.windows = self.news = 0
        rows = copies_of(memory)._rows
        window, news = rows.window, rows.news

        def counted_window(*given: Any) -> Any:
            self.windows += 1
            return window(*given)

        def counted_news(*given: Any) -> Any:
            self.news += 1
            return news(*given)

        vars(rows).update(window=counted_window, news=counted_news)


def test_the_copy_serves_without_reading_messages(
    memory: Memory, recent: ShortTermMemory, valkey: Valkey
) -> None:
    counted = Counting(memory)
    for n in range(10):
        recent.add(f"number {n}")
        assert len(recent.turns()) == n + 1
    assert counted.windows == 1  # the first time, to make it
    done = counted.news
    for _ in range(5):
        recent.turns()
    assert (counted.windows, counted.news, valkey.copies()) == (1, done, 1)


def test_a_copy_is_brought_up_to_date_with_what_others_wrote(
    memory: Memory, recent: ShortTermMemory, db: Path
) -> None:
    recent.add("one")
    recent.turns()
    counted = Counting(memory)
    with opened(db) as other:
        other.user("ana").remember(["two", "three"], session="s1")
    assert contents(recent.turns()) == ["one", "two", "three"]
    recent.turns()
    assert (counted.windows, counted.news) == (0, 1)


def test_readers_with_other_limits_share_a_copy(memory: Memory, ana: ScopedMemory) -> None:
    readers = [ShortTermMemory(ana, "s1", **reader) for reader in READERS]
    for n in range(30):
        readers[0].add(f"number {n} " * 3)
    for _ in range(3):
        for reader in readers:
            reader.turns()
    counted = Counting(memory)
    for _ in range(3):
        for reader in readers:
            reader.turns()
    assert (counted.windows, counted.news) == (0, 0)


def test_the_script_keeps_a_copy_within_its_budgets(
    ana: ScopedMemory, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    recent = ShortTermMemory(ana, "s1", max_messages=5, max_tokens=200)
    recent.add("0")
    recent.turns()
    for n in range(1, 40):
        recent.add(f"{n} " + "word " * (n % 9))
    [key] = valkey.client.keys()
    assert valkey.client.llen(key) == 6  # and the head
    assert recent.turns() == expected(ana, "s1", messages=5)
    small = ShortTermMemory(ana, "s2", max_tokens=60)
    small.add("0")
    small.turns()
    for n in range(1, 40):
        small.add(f"{n} " + "word " * (n % 9))
    [key] = set(valkey.client.keys()) - {key}
    assert valkey.client.llen(key) == len(small.turns()) + 1 < 10


def test_a_copy_ends_with_its_ttl_and_no_key_holds_a_name(
    ana: ScopedMemory, valkey: Valkey
) -> None:
    recent = ShortTermMemory(ana, "a session", ttl=timedelta(hours=3))
    recent.add("x")
    recent.turns()
    [key] = valkey.client.keys()
    left: Any = valkey.client.pttl(key)
    assert 3 * 3_600_000 - 60_000 < left <= 3 * 3_600_000
    assert not any(name in key for name in (b"ana", b"session"))


def test_what_is_too_large_for_a_copy_is_served_all_the_same(
    ana: ScopedMemory, recent: ShortTermMemory, valkey: Valkey
) -> None:
    for n in range(4):
        recent.add(f"{n} " + "x" * 1_900_000)
        same = recent.turns() == expected(ana, "s1")
        assert same  # without a comparison of so much text, should it fail
    assert len(valkey.everything()) < redis_turns.MOST_BYTES + 1_000


# --- whom a copy is not for -----------------------------------------------------------------------


def test_stores_that_share_a_server_never_serve_each_others(tmp_path: Path, valkey: Valkey) -> None:
    with opened(tmp_path / "a.db", valkey.url) as one, opened(tmp_path / "b.db", valkey.url) as two:
        recents = [ShortTermMemory(memory.user("ana"), "s1") for memory in (one, two)]
        for n in range(8):
            for name, recent in zip("ab", recents, strict=True):
                recent.add(f"{name} {n}")
                assert contents(recent.turns()) == [f"{name} {k}" for k in range(n + 1)]


def test_copies_of_one_store_that_went_apart_never_serve_each_others(
    tmp_path: Path, valkey: Valkey
) -> None:
    with opened(tmp_path / "a.db", valkey.url) as one:
        mine = ShortTermMemory(one.user("ana"), "s1")
        mine.add("both")
        mine.turns()
        one.operator.backup(tmp_path / "b.db")
        with opened(tmp_path / "b.db", valkey.url) as two:
            theirs = ShortTermMemory(two.user("ana"), "s1")
            for n in range(5):
                mine.add(f"mine {n}")
                theirs.add(f"theirs {n}")
                assert contents(theirs.turns()) == ["both", *(f"theirs {k}" for k in range(n + 1))]
                assert contents(mine.turns()) == ["both", *(f"mine {k}" for k in range(n + 1))]


def test_a_restored_store_is_not_served_what_came_later(
    memory: Memory, recent: ShortTermMemory, tmp_path: Path, db: Path
) -> None:
    recent.add("before")
    recent.turns()
    memory.operator.backup(tmp_path / "backup.db")
    recent.add("after")
    recent.turns()
    Memory.restore(tmp_path / "backup.db", db, replace=True)
    assert contents(recent.turns()) == ["before"]
    recent.add("instead")
    assert contents(recent.turns()) == ["before", "instead"]


GARBAGE = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"", b"m1", b"[]", b"[1,2,3,4,{}]", b'[1,0,0,0,{"i":1,"r":[]}]', b"[1e999]"]),
)


@given(garbage=st.lists(GARBAGE, min_size=1, max_size=4), at=st.integers(-1, 4), kept=st.booleans())
def test_a_copy_that_others_spoiled_is_made_anew(
    server: Valkey, garbage: list[bytes], at: int, kept: bool
) -> None:
    server.client.flushall()
    with new_folder() as folder:
        open_memory(folder / "memory.db").close()
        with opened(folder / "memory.db", server.url) as memory:
            recent = ShortTermMemory(memory.user("ana"), "s1")
            for n in range(3):
                recent.add(f"number {n}")
                recent.turns()
            [key] = server.client.keys()
            whole: Any = server.client.lrange(key, 0, -1)
            spoilt = whole[: at + 1] + garbage + (whole[at + 2 :] if kept else [])
            server.client.delete(key)
            server.client.rpush(key, *spoilt)
            # Whoever writes there may write what is right, but for the texts: that can't be told.
            if spoilt[0] != whole[0] or any(
                entry in spoilt for entry in garbage if entry[:1] != b"["
            ):
                assert contents(recent.turns()) == ["number 0", "number 1", "number 2"]
            recent.add("number 3")
            recent.clear()
            assert contents(recent.turns())[-1] == "number 3"
            assert copies_of(memory).status == "up"


def test_a_key_of_another_kind_keeps_nobody_from_reading(
    ana: ScopedMemory, recent: ShortTermMemory, valkey: Valkey, memory: Memory
) -> None:
    recent.add("one")
    recent.turns()
    [key] = valkey.client.keys()
    valkey.client.set(key, "a string")
    assert contents(recent.turns()) == ["one"]
    recent.add("two")
    assert contents(recent.turns()) == ["one", "two"]
    assert copies_of(memory).status == "down"


# --- forgetting -----------------------------------------------------------------------------------


def forget_message(ana: ScopedMemory) -> Any:
    return ana.forget(message_id="secret", session="s1")


def forget_session(ana: ScopedMemory) -> Any:
    return ana.forget_session("s1")


def forget_everything(ana: ScopedMemory) -> Any:
    return ana.forget_everything()


FORGETTING = [forget_message, forget_session, forget_everything]
Forget = Callable[[ScopedMemory], Any]


def fill(ana: ScopedMemory) -> ShortTermMemory:
    """A session with a copy, which holds a secret."""
    recent = ShortTermMemory(ana, "s1")
    recent.add("before")
    recent.add({"id": "secret", "content": SECRET})
    recent.turns()
    recent.add("after")
    assert SECRET in contents(recent.turns())
    return recent


@pytest.mark.parametrize("forget", FORGETTING)
def test_what_is_forgotten_leaves_no_byte_there(
    ana: ScopedMemory, valkey: Valkey, forget: Forget
) -> None:
    recent = fill(ana)
    assert SECRET.encode() in valkey.everything()
    assert forget(ana).state == "clean"
    assert SECRET.encode() not in valkey.everything()
    assert SECRET not in contents(recent.turns())
    recent.add("later")
    assert "later" in contents(recent.turns())
    assert SECRET.encode() not in valkey.everything()


@pytest.mark.parametrize("forget", FORGETTING)
def test_a_server_that_does_not_answer_makes_forgetting_pending(
    frail: Valkey, db: Path, forget: Forget
) -> None:
    with opened(db, frail.url) as memory:
        ana = memory.user("ana")
        recent = fill(ana)
        frail.freeze()
        try:
            assert forget(ana).state == "pending"
            assert SECRET not in contents(recent.turns())
            assert memory.operator.stats().jobs
        finally:
            frail.thaw()
        assert SECRET not in contents(recent.turns())
        memory.operator.upkeep()
        assert SECRET.encode() not in frail.everything()
        assert not memory.operator.stats().jobs


def test_a_server_that_comes_back_with_its_dump_is_cleaned(frail: Valkey, db: Path) -> None:
    with opened(db, frail.url) as memory:
        ana = memory.user("ana")
        recent = fill(ana)
        frail.save()
        frail.kill()
        assert ana.forget_everything().state == "pending"
        memory.operator.upkeep()
        assert memory.operator.stats().jobs  # it is still to be done
        frail.start()
        assert SECRET.encode() in frail.everything()
        assert recent.turns() == []
        memory.operator.upkeep()
        assert SECRET.encode() not in frail.everything()
        assert not memory.operator.stats().jobs


def test_a_pending_copy_of_a_scope_outlives_that_scope_being_forgotten(
    frail: Valkey, db: Path
) -> None:
    with opened(db, frail.url) as memory:
        ana = memory.user("ana")
        fill(ana)
        frail.save()
        frail.kill()
        assert ana.forget_session("s1").state == "pending"
        ana.remember("something else", session="s2")
        assert ana.forget_everything().state == "pending"
        frail.start()
        memory.operator.upkeep()
        assert SECRET.encode() not in frail.everything()


def test_a_copy_that_must_have_ended_is_no_longer_waited_for(
    frail: Valkey, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(db, frail.url) as memory:
        ana = memory.user("ana")
        fill(ana)
        frail.kill()
        ana.forget_session("s1")
        memory.operator.upkeep()
        assert memory.operator.stats().jobs
        later = now_micros() + 31 * 86_400_000_000
        monkeypatch.setattr("mnemic.upkeep.jobs.now_micros", lambda: later)
        memory.operator.upkeep()
        assert not memory.operator.stats().jobs
        frail.start()


@pytest.mark.parametrize("step", ["window", "news"])
def test_a_reader_that_comes_too_late_puts_nothing_back(
    memory: Memory, ana: ScopedMemory, valkey: Valkey, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = copies_of(memory)._rows
    read = getattr(rows, step)
    recent = ShortTermMemory(ana, "s1")
    recent.add("before")
    if step == "news":
        recent.turns()  # there is a copy, which isn't up to date
    ana.remember(SECRET, session="s1")

    def late(*given: Any) -> Any:
        found = read(*given)
        ana.forget_session("s1")
        return found

    monkeypatch.setattr(rows, step, late)
    assert SECRET in contents(recent.turns())  # it was read before it was forgotten
    monkeypatch.undo()
    assert SECRET.encode() not in valkey.everything()
    assert recent.turns() == []


def test_a_reader_that_slept_for_longer_than_the_mark_stays_puts_nothing_back(
    ana: ScopedMemory, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    recent = ShortTermMemory(ana, "s1")
    recent.add(SECRET)
    look = redis_turns._look

    def long_ago(*given: Any) -> Any:
        seen = look(*given)
        return seen._replace(at=seen.at - 61_000)

    monkeypatch.setattr(redis_turns, "_look", long_ago)
    assert contents(recent.turns()) == [SECRET]
    assert valkey.copies() == 0
    monkeypatch.undo()
    recent.turns()
    assert valkey.copies() == 1


def test_what_was_forgotten_where_no_copies_are_known_is_not_served(
    ana: ScopedMemory, valkey: Valkey, db: Path
) -> None:
    recent = fill(ana)
    with opened(db) as other:
        assert other.user("ana").forget_session("s1").state == "clean"
    assert recent.turns() == []
    assert SECRET.encode() not in valkey.everything()


def test_a_copy_is_not_brought_up_to_date_across_what_others_forgot(
    ana: ScopedMemory, valkey: Valkey, db: Path
) -> None:
    recent = fill(ana)
    with opened(db) as other:
        forget_message(other.user("ana"))
        ShortTermMemory(other.user("ana"), "s1").add("by another")
    assert contents(recent.turns()) == ["before", "after", "by another"]
    assert SECRET.encode() not in valkey.everything()


def test_no_copy_is_made_while_a_reply_is_under_way(ana: ScopedMemory, valkey: Valkey) -> None:
    recent = ShortTermMemory(ana, "s1")
    recent.add("question")
    with ana.stream(iter(["one ", "two ", "three"]), session="s1", every=0.05) as reply:
        said = ""
        for token in reply:
            said += token
            wait_for(lambda: contents(expected(ana, "s1"))[1:] == [said])  # noqa: B023
            assert contents(recent.turns()) == ["question", said]
            assert valkey.copies() == 0
    assert contents(recent.turns()) == ["question", "one two three"]
    assert valkey.copies() == 1


def test_without_copies_forgetting_makes_no_job_for_them(db: Path) -> None:
    with opened(db) as memory:
        fill(memory.user("ana"))
        erased = memory._core.store.erase_everything(memory.user("ana").scope)
        assert (erased.copies, list(memory.operator.stats().jobs)) == (None, ["scrub"])


# --- a server that goes away ----------------------------------------------------------------------


def test_a_server_killed_under_load_costs_no_message(frail: Valkey, db: Path) -> None:
    acknowledged: list[list[str]] = [[] for _ in range(4)]
    wrong: list[str] = []
    stop = threading.Event()
    with opened(db, frail.url) as one, opened(db, frail.url) as two:

        def work(number: int) -> None:
            recent = ShortTermMemory((one, two)[number % 2].user("ana"), f"s{number % 2}")
            for n in count():
                if stop.is_set():
                    return
                text = f"{number} says {n}"
                recent.add(text)
                acknowledged[number].append(text)
                mine = [t for t in contents(recent.turns()) if t.startswith(f"{number} says")]
                if mine != acknowledged[number][-len(mine) :] or text not in mine:
                    wrong.append(f"{text}: {mine[-3:]}")

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()

        def further(turns: int) -> None:
            goals = [len(done) + turns for done in acknowledged]
            wait_for(lambda: all(len(d) >= g for d, g in zip(acknowledged, goals, strict=True)), 60)

        try:
            further(10)
            assert frail.copies() == 2
            for _ in range(2):
                frail.kill()
                further(10)
                assert {copies_of(one).status, copies_of(two).status} == {"down"}
                frail.start()
                wait_for(lambda: frail.copies() == 2, 60)
                further(5)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert wrong == []
        assert all(copies_of(memory).check().ok for memory in (one, two))
        for number in range(2):
            kept = contents(expected(one.user("ana"), f"s{number}", messages=100_000))
            due = acknowledged[number] + acknowledged[number + 2]
            assert sorted(kept) == sorted(due)
            assert ShortTermMemory(two.user("ana"), f"s{number}").turns() == expected(
                one.user("ana"), f"s{number}"
            )


def test_while_nobody_answers_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    link, now, asked = Link("redis://127.0.0.1:1"), [100.0], []

    def ping(client: Any) -> Any:
        asked.append(now[0])
        return client.ping()

    link.clock = lambda: now[0]
    for _ in range(1_500):
        assert link.ask(ping) is None
        now[0] += 0.1
    waits = [round(later - sooner) for sooner, later in pairwise(asked)]
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert link.trouble is not None
    assert "ConnectionError" in link.trouble
    assert link.ask(ping, always=True) is None  # for what has to be deleted


def test_many_that_fail_at_once_count_as_one(frail: Valkey) -> None:
    link = Link(frail.url)
    barrier = threading.Barrier(6)
    assert link.ask(lambda client: client.ping()) is True
    frail.freeze()

    def fail() -> None:
        link.ask(lambda client: barrier.wait() + 1 and client.ping())

    threads = [threading.Thread(target=fail) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert link._failures == 1
    frail.thaw()
    assert link.ask(lambda client: client.ping(), always=True) is True
    assert (link._failures, link.trouble) == (0, None)


def test_a_server_that_was_started_anew_is_reached_at_once(frail: Valkey) -> None:
    link = Link(frail.url)
    assert link.ask(lambda client: client.ping()) is True
    frail.kill()
    frail.start()
    assert link.ask(lambda client: client.ping()) is True


def test_an_answer_that_was_not_waited_for_is_nobody_elses(valkey: Valkey) -> None:
    link = Link(valkey.url)

    def interrupted(client: Any) -> None:
        connection = client.connection_pool.get_connection()
        try:
            connection.send_command("BLPOP", "nothing", "0.1")  # its answer comes later
            raise KeyboardInterrupt
        finally:
            client.connection_pool.release(connection)

    with pytest.raises(KeyboardInterrupt):
        link.ask(interrupted)
    assert link.ask(lambda client: client.echo("mine")) == b"mine"


def test_a_server_of_another_password_is_done_without(db: Path, frail: Valkey) -> None:
    frail.client.config_set("requirepass", "sesame")
    wrong = frail.url.replace("//", "//:open-barley@")
    with opened(db, wrong) as memory:
        recent = ShortTermMemory(memory.user("ana"), "s1")
        recent.add("one")
        assert contents(recent.turns()) == ["one"]
        finding = copies_of(memory).check()
        assert not finding.ok
        assert "barley" not in finding.says
    with opened(db, frail.url.replace("//", "//:sesame@")) as memory:
        ShortTermMemory(memory.user("ana"), "s1").turns()
        assert copies_of(memory).status == "up"


# --- processes ------------------------------------------------------------------------------------

WRITER = """
import sys
from mnemic import Memory, ShortTermMemory
from mnemic.settings import Settings
from mnemic.testing import FakeEmbedder

path, url, number = sys.argv[1:]
settings = Settings(short_term_url=url)
with Memory(path, embedder=FakeEmbedder(), settings=settings) as memory:
    recent = ShortTermMemory(memory.user("ana"), "s1", max_messages=1000)
    for n in range(40):
        recent.add(f"{number} says {n}")
        said = [turn.message.content for turn in recent.turns()]
        mine = [text for text in said if text.startswith(number)]
        assert mine == [f"{number} says {k}" for k in range(n + 1)], (n, mine)
"""


def test_processes_at_once_see_their_own_words_and_lose_none(
    memory: Memory, db: Path, valkey: Valkey
) -> None:
    command = [sys.executable, "-c", WRITER, str(db), valkey.url]
    running = [
        subprocess.Popen([*command, name], env=environment(), stderr=subprocess.PIPE)
        for name in "abc"
    ]
    for process in running:
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
    ana = memory.user("ana")
    turns = ShortTermMemory(ana, "s1", max_messages=1000).turns()
    assert len(turns) == 120
    assert turns == expected(ana, "s1", messages=1000)


@needs_fork
def test_a_child_process_has_a_line_of_its_own(
    memory: Memory, ana: ScopedMemory, recent: ShortTermMemory, valkey: Valkey
) -> None:
    recent.add("parent")
    recent.turns()

    def do() -> None:
        for n in range(20):
            recent.add(f"child {n}")
            assert contents(recent.turns()) == ["parent", *(f"child {k}" for k in range(n + 1))]
        assert copies_of(memory).status == "up"

    assert in_child(do) == 0
    assert recent.turns() == expected(ana, "s1")
    assert len(recent.turns()) == 21


# --- settings -------------------------------------------------------------------------------------


def test_where_the_copies_are_is_an_argument_or_a_setting(
    db: Path, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNEMIC_SHORT_TERM_URL", "redis://127.0.0.1:1")
    assert from_environment().short_term_url == "redis://127.0.0.1:1"
    with Memory(db, embedder=FakeEmbedder()) as memory:
        assert copies_of(memory).link.place == "127.0.0.1:1/0"
        finding = memory.operator.check()[-1]
        assert (finding.check, finding.ok) == ("short-term", False)
    with Memory(db, embedder=FakeEmbedder(), short_term=valkey.url) as memory:
        assert copies_of(memory).link.place == f"127.0.0.1:{valkey.port}/0"
        assert memory.operator.check()[-1].ok
    monkeypatch.delenv("MNEMIC_SHORT_TERM_URL")
    with Memory(db, embedder=FakeEmbedder()) as memory:
        assert memory._core.turns.status == "embedded"
        assert memory.operator.check()[-1].check == "jobs"


@pytest.mark.parametrize(
    ("url", "plain", "place"),
    [
        ("redis://h", "redis://h", "h:6379/0"),
        ("valkey://h:1/3", "redis://h:1/3", "h:1/3"),
        ("rediss://ana:pw@h/", "rediss://ana:pw@h/", "h:6379/0"),
        ("valkeys://h?socket_timeout=1", "rediss://h?socket_timeout=1", "h:6379/0"),
        ("unix:///run/r.sock?db=2", "unix:///run/r.sock?db=2", "/run/r.sock 2"),
    ],
)
def test_a_url_is_read(url: str, plain: str, place: str) -> None:
    assert read_url(url) == (plain, place)
    assert Link(url).place == place


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "redis",
            "redis:",
            "redis://",
            "http://h",
            "unix://",
            "redis://[::1",
            "redis://h/12345",
        ),
        *("redis://:pw-4711@", "redis://h:pw-4711", "redis://h/pw-4711", "redis://h:99999"),
        *(
            f"redis://h?{option}"
            for option in ("decode_responses=1", "protocol=3", "db=x", "ssl_ca_path=x")
        ),
        *(
            "redis://h?socket_timeout=soon",
            "rediss://h?ssl_nonsense=1",
            "redis://h\x00",
            "redis://h\ud800",
        ),
    ],
)
def test_a_url_that_can_not_be_used_is_refused_and_not_shown(url: str, db: Path) -> None:
    with pytest.raises(InputError) as caught:
        Memory(db, embedder=FakeEmbedder(), settings=Settings(), short_term=url)
    assert "4711" not in str(caught.value)


def test_a_url_of_another_type_is_refused(db: Path) -> None:
    with pytest.raises(InputError, match="not int"):
        Memory(db, embedder=FakeEmbedder(), settings=Settings(), short_term=7)  # type: ignore[arg-type]


def test_without_the_library_the_error_names_what_installs_it(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingExtra, match=r"pip install 'mnemic\[redis\]'"):
        Memory(db, embedder=FakeEmbedder(), settings=Settings(), short_term="redis://h")
    opened(db).close()


def test_a_socket_is_reached_by_its_path(db: Path, frail: Valkey) -> None:
    path = frail.folder / "valkey.sock"
    frail.kill()
    frail.start("--unixsocket", str(path))
    with opened(db, f"unix://{path}") as memory:
        recent = ShortTermMemory(memory.user("ana"), "s1")
        recent.add("one")
        assert contents(recent.turns()) == ["one"]
        assert frail.copies() == 1


def test_time_outs_are_short() -> None:
    assert redis_link.TIMEOUT_S <= 0.5
