"""`AsyncMemory`: the same methods as `Memory`, off the loop's thread, cancelled and closed as promised."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, assert_type

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlalchemy import Engine, Pool, event

from mnemic import aio, awaiting
from mnemic.aio import (
    AsyncFacts,
    AsyncMemory,
    AsyncOperator,
    AsyncProcedures,
    AsyncScopedMemory,
    AsyncTenant,
)
from mnemic.errors import InputError, StoreClosed, StoreUnreadable
from mnemic.layers.facts import Facts
from mnemic.layers.procedural import Procedures
from mnemic.memory import Memory, Operator, ScopedMemory, Tenant
from mnemic.models.embedder import Embedder
from mnemic.models.minilm import MiniLM
from mnemic.records import MemoryRecord, Recall, Receipt
from mnemic.settings import Settings
from tests.fakes import FakeEmbedder, MeasuringEmbedder, environment, open_memory

TWINS: list[tuple[type, type]] = [
    (Memory, AsyncMemory),
    (Tenant, AsyncTenant),
    (ScopedMemory, AsyncScopedMemory),
    (Operator, AsyncOperator),
    (Facts, AsyncFacts),
    (Procedures, AsyncProcedures),
]
LONG = 30.0  # a wait that only a fault lets run out


class Gated(MeasuringEmbedder):
    """One that stops, in `embed` or in `token_offsets`, until it is let go."""

    def __init__(self, stop: str = "embed") -> None:
        super().__init__(max_tokens=64)
        self.stop = stop
        self.entered, self.go = threading.Event(), threading.Event()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self._wait("embed")
        return super().embed(texts)

    def token_offsets(self, text: str) -> list[tuple[int, int]]:
        self._wait("token_offsets")
        return super().token_offsets(text)

    def _wait(self, here: str) -> None:
        if here == self.stop:
            self.entered.set()
            assert self.go.wait(LONG)


def open_async(db: Path, embedder: Embedder | None = None, threads: int = 4) -> AsyncMemory:
    """An async memory on the store of a file, new where there is none."""
    if not db.exists():
        open_memory(db, embedder).close()
    return AsyncMemory(
        db, embedder=embedder or FakeEmbedder(), settings=Settings(), threads=threads
    )


async def happened(signal: threading.Event) -> None:
    """Wait for something in another thread while the loop goes on."""
    assert await asyncio.to_thread(signal.wait, LONG)


async def turns(count: int = 50) -> None:
    """Let the loop run whatever is ready."""
    for _ in range(count):
        await asyncio.sleep(0)


async def texts(handle: AsyncScopedMemory) -> list[str]:
    return [record.text async for record in handle.iter_memories()]


def pool_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("mnemic-aio")]


def assert_threads_end() -> None:
    """Those that were told to end are given the time to."""
    for thread in pool_threads():
        thread.join(LONG)
    assert pool_threads() == []


@pytest.fixture(autouse=True)
def _no_thread_is_left(tokens_ready: None) -> Iterator[None]:
    yield
    gc.collect()
    assert_threads_end()


# --- the same methods -----------------------------------------------------------------------------


# Not awaited: it gives a buffer, around what either kind of memory can read (tests/layers/test_sensory.py).
OF_THEIR_OWN = {"stream"}


def public(kind: type) -> dict[str, Any]:
    return {name: part for name, part in vars(kind).items() if not name.startswith("_")}


def function_of(part: Any) -> Callable[..., Any]:
    if isinstance(part, property):
        part = part.fget
    return part.__func__ if isinstance(part, staticmethod) else part


def differences(plain: type, twin: type) -> list[str]:
    """What a public part of the plain class has that its twin lacks, and the other way round."""
    mine, others = public(plain), public(twin)
    found = [
        f"{twin.__name__} lacks {name}: add `{name} = awaited({plain.__name__}.{name})` to aio.py"
        for name in mine
        if name not in others
    ]
    found += [f"{plain.__name__} lacks {name}" for name in others if name not in mine]
    for name in (mine.keys() & others.keys()) - OF_THEIR_OWN:
        one, other = function_of(mine[name]), function_of(others[name])
        if inspect.signature(one).parameters != inspect.signature(other).parameters:
            found.append(f"{twin.__name__}.{name} takes other parameters")
        if isinstance(mine[name], property | staticmethod) and type(mine[name]) is not type(
            others[name]
        ):
            found.append(f"{twin.__name__}.{name} is no {type(mine[name]).__name__}")
        if not has_twin_result(one, other):
            found.append(f"{twin.__name__}.{name} gives something else")
        if not (other.__doc__ or "").strip():
            found.append(f"{twin.__name__}.{name} has no docstring")
    return found


def has_twin_result(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether a method gives what its twin gives: a handle at once, anything else awaited."""
    mine = str(inspect.signature(one).return_annotation)
    others = str(inspect.signature(other).return_annotation)
    if any(mine == plain.__name__ for plain, _ in TWINS):
        return others == f"Async{mine}" and not inspect.iscoroutinefunction(other)
    if mine.startswith("Iterator["):
        return others == mine and inspect.isasyncgenfunction(other)
    return others == mine and inspect.iscoroutinefunction(other)


@pytest.mark.parametrize(("plain", "twin"), TWINS, ids=lambda kind: kind.__name__)
def test_the_twins_have_the_same_methods(plain: type, twin: type) -> None:
    assert differences(plain, twin) == []


def test_a_new_method_is_missed() -> None:
    class ScopedMemory:
        def remember(self, said: str) -> int:
            """Keep it."""
            return 0

        def merge(self) -> None: ...

    class AsyncScopedMemory:
        def remember(self, said: str, more: str) -> int:
            return 0

    assert differences(ScopedMemory, AsyncScopedMemory) == [
        "AsyncScopedMemory lacks merge: add `merge = awaited(ScopedMemory.merge)` to aio.py",
        "AsyncScopedMemory.remember takes other parameters",
        "AsyncScopedMemory.remember gives something else",
        "AsyncScopedMemory.remember has no docstring",
    ]


def test_an_async_memory_is_made_as_a_plain_one_is() -> None:
    plain = dict(inspect.signature(Memory).parameters)
    mine = dict(inspect.signature(AsyncMemory).parameters)
    assert mine.pop("threads").default is None
    assert mine == plain


def test_the_handles_say_whose_they_are(db: Path, memory: Memory) -> None:
    mine = open_async(db)
    for plain, twin in [
        (memory.user("ana"), mine.user("ana")),
        (memory.agent("ana"), mine.agent("ana")),
        (memory.shared("ana"), mine.shared("ana")),
        (memory.tenant("acme").user("ana"), mine.tenant("acme").user("ana")),
    ]:
        assert twin.scope == plain.scope
    assert mine.tenant("acme").name == memory.tenant("acme").name
    with pytest.raises(InputError, match="user must not be empty"):
        mine.user(" ")
    with pytest.raises(InputError, match="tenant must not be empty"):
        mine.tenant("")


def test_a_method_says_what_it_takes() -> None:
    recall = AsyncScopedMemory.recall
    assert (recall.__module__, recall.__qualname__) == ("mnemic.aio", "AsyncScopedMemory.recall")
    assert inspect.signature(recall) == inspect.signature(ScopedMemory.recall)
    assert inspect.getdoc(recall) == inspect.getdoc(ScopedMemory.recall)


async def typed(memory: AsyncMemory) -> None:
    """Never run: mypy holds it against the types that a caller sees."""
    ana = memory.user("ana")
    assert_type(await ana.remember("x", session="s"), Receipt)
    assert_type(await ana.recall("x", limit=3), Recall)
    assert_type(await ana.get("x"), MemoryRecord | None)
    assert_type(ana.iter_memories(), AsyncGenerator[MemoryRecord, None])
    assert_type(await memory.operator.reembed(print), int)
    async with memory as opened:
        assert_type(opened, AsyncMemory)
    await ana.remember()  # type: ignore[call-arg]
    await ana.remember(3)  # type: ignore[arg-type]
    await ana.recall("x", limits=3)  # type: ignore[call-arg]


def test_every_method_does_what_the_plain_one_does(db: Path, tmp_path: Path) -> None:
    async def use() -> None:
        async with open_async(db) as memory:
            ana = memory.tenant("acme").user("ana")
            said = {"role": "user", "content": "I moved to Lisbon.", "id": "m1"}
            receipt = await ana.remember([said, "I like trams."], session="s1")
            assert receipt.state == "indexed"
            first, second = receipt.memory_ids
            found = await ana.recall("who moved to Lisbon?", limit=1)
            assert found[0].memory.id == first
            assert (await ana.pin(second), await ana.unpin(second)) == (True, True)
            record = await ana.get(first)
            assert record is not None
            assert record.text == "I moved to Lisbon."
            actions = [change.action for change in await ana.history(second)]
            assert actions == ["remembered", "pinned", "unpinned"]
            assert (await ana.forget(message_id="m1")).state == "clean"
            assert await texts(ana) == ["I like trams."]
            fact = await ana.facts.remember("Ana lives in Lisbon.", confidence=0.9)
            assert [each.id for each in await ana.facts.profile()] == [fact.id]
            assert [each.id async for each in ana.facts.iter_facts()] == [fact.id]
            assert (await ana.facts.forget(fact.id)).state == "clean"
            operator = memory.operator
            assert (await operator.stats()).memories == 1
            assert await operator.scopes() == [ana.scope]
            assert (await operator.upkeep()).jobs == {}
            assert await operator.reembed() == 0
            backup = await operator.backup(tmp_path / "backup.db")
            assert (await ana.forget_session("s1")).memories == 1
            assert (await ana.forget_everything()).state in ("absent", "clean")
            assert await texts(ana) == []
        await AsyncMemory.restore(backup.path, db, replace=True)
        async with open_async(db) as memory:
            assert await texts(memory.tenant("acme").user("ana")) == ["I like trams."]

    asyncio.run(use())


def test_an_error_is_the_plain_one(db: Path) -> None:
    async def use() -> None:
        async with open_async(db) as memory:
            with pytest.raises(InputError, match="limit"):
                await memory.user("ana").recall("x", limit=0)
            with pytest.raises(TypeError, match="limits"):
                await memory.user("ana").recall("x", limits=3)  # type: ignore[call-arg]

    asyncio.run(use())


# --- many at once, off the loop -------------------------------------------------------------------


def test_a_hundred_tasks_are_all_kept_and_none_mixed(db: Path) -> None:
    users = [f"user{n}" for n in range(5)]

    async def use() -> None:
        async with open_async(db) as memory:

            async def one(n: int) -> None:
                name = users[n % 5]
                handle = memory.user(name)
                receipt = await handle.remember(f"{name} keeps fact{n}", session=f"s{n % 3}")
                found = await handle.recall(f"fact{n}", limit=100)
                assert receipt.memory_ids[0] in [hit.memory.id for hit in found]
                assert {hit.memory.text.split()[0] for hit in found} == {name}

            await asyncio.gather(*(one(n) for n in range(100)))
            for first, name in enumerate(users):
                wanted = {f"{name} keeps fact{n}" for n in range(first, 100, 5)}
                assert set(await texts(memory.user(name))) == wanted

    asyncio.run(use())


@contextmanager
def database_threads() -> Iterator[set[int]]:
    """The threads that take a connection, or run a statement, meanwhile."""
    seen: set[int] = set()

    def note(*_: object) -> None:
        seen.add(threading.get_ident())

    watched = [(Engine, "before_cursor_execute"), (Pool, "checkout"), (Pool, "connect")]
    for target, name in watched:
        event.listen(target, name, note)
    try:
        yield seen
    finally:
        for target, name in watched:
            event.remove(target, name, note)


class Noting(FakeEmbedder):
    """One that notes in which threads it is called, and with which context."""

    def __init__(self, name: str = "fake") -> None:
        super().__init__(name)
        self.threads: set[int] = set()
        self.seen: list[str] = []

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.threads.add(threading.get_ident())
        self.seen.append(REQUEST.get())
        return super().embed(texts)


REQUEST: ContextVar[str] = ContextVar("REQUEST", default="none")


def test_nothing_runs_on_the_thread_of_the_loop(tmp_path: Path) -> None:
    embedder = Noting()

    async def use() -> None:
        async with AsyncMemory(
            tmp_path / "new.db", embedder=embedder, settings=Settings()
        ) as memory:
            ana = memory.user("ana")
            await ana.remember(["one", "two"], session="s")
            await ana.recall("one")
            [first, _] = [record.id async for record in ana.iter_memories()]
            await ana.pin(first)
            await ana.forget(first)
            await memory.operator.check()

    with database_threads() as seen:
        asyncio.run(use())
    assert seen
    assert embedder.threads
    assert threading.get_ident() not in seen | embedder.threads


def test_the_loop_goes_on_while_an_embedder_blocks(db: Path) -> None:
    embedder = Gated()

    async def use() -> None:
        async with open_async(db, embedder) as memory:
            slow = asyncio.create_task(memory.user("ana").remember("one"))
            await happened(embedder.entered)
            assert (await memory.operator.stats()).messages == 1  # on disk before it is embedded
            assert not slow.done()
            embedder.go.set()
            assert (await slow).state == "indexed"

    asyncio.run(use())


def test_as_many_calls_run_at_once_as_there_are_threads(db: Path) -> None:
    class Meeting(FakeEmbedder):
        """Lets texts through in threes, and counts how many are inside."""

        def __init__(self) -> None:
            super().__init__()
            self.three = threading.Barrier(3, timeout=LONG)
            self.lock = threading.Lock()
            self.inside = self.most = 0

        def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
            with self.lock:
                self.inside += 1
                self.most = max(self.most, self.inside)
            self.three.wait()
            with self.lock:
                self.inside -= 1
            return super().embed(texts)

    embedder = Meeting()

    async def use() -> None:
        async with open_async(db, embedder, threads=3) as memory:
            calls = [memory.user(f"user{n}").remember("hello") for n in range(9)]
            assert {receipt.state for receipt in await asyncio.gather(*calls)} == {"indexed"}
            assert len(pool_threads()) == 3

    asyncio.run(use())
    assert embedder.most == 3


def test_the_number_of_threads_goes_with_the_embedder(db: Path) -> None:
    def threads(**given: Any) -> int:
        return AsyncMemory(db, **given)._pool._threads

    served = Settings(embedder_url="http://localhost/v1", embedder_model="m")
    assert threads(settings=Settings()) == 2
    assert threads(embedder=MiniLM(), settings=served) == 2
    assert threads(settings=served) == 8
    assert threads(embedder=FakeEmbedder(), settings=Settings()) == 8
    assert threads(settings=served, threads=3) == 3
    for wrong, says in ((0, "from 1 to 32"), (33, "from 1"), ("2", "whole"), (2.0, "whole")):
        with pytest.raises(InputError, match=f"threads must be.*{says}"):
            threads(threads=wrong)
    for nothing in (5, 0, ""):
        with pytest.raises(InputError, match="settings must be a `Settings`"):
            threads(settings=nothing)


def test_context_variables_go_along(db: Path) -> None:
    embedder = Noting()

    async def request(memory: AsyncMemory, name: str) -> None:
        REQUEST.set(name)
        await memory.user(name).remember("hello")

    async def use() -> None:
        async with open_async(db, embedder) as memory:
            await asyncio.gather(*(request(memory, f"r{n}") for n in range(6)))

    asyncio.run(use())
    assert sorted(embedder.seen) == [f"r{n}" for n in range(6)]
    assert REQUEST.get() == "none"


def test_progress_is_told_in_the_thread_that_works(db: Path) -> None:
    names: set[str] = set()

    async def use() -> None:
        async with open_async(db) as memory:
            await memory.user("ana").remember(["one", "two"])
        async with open_async(db, FakeEmbedder("other")) as memory:
            made = await memory.operator.reembed(
                lambda _: names.add(threading.current_thread().name)
            )
            assert made == 2

    asyncio.run(use())
    assert names
    assert all(name.startswith("mnemic-aio") for name in names)


# --- opening --------------------------------------------------------------------------------------


def counted_opening(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads in which a memory was opened, or tried to be."""
    opened: list[int] = []

    def make(*args: Any, **kwargs: Any) -> Memory:
        opened.append(threading.get_ident())
        return Memory(*args, **kwargs)

    monkeypatch.setattr(aio, "Memory", make)
    return opened


def test_making_one_touches_nothing(tmp_path: Path) -> None:
    memory = AsyncMemory(tmp_path / "folder" / "life.db", settings=Settings())
    memory.user("ana"), memory.tenant("acme").agent("bot"), memory.operator
    assert list(tmp_path.iterdir()) == []
    assert pool_threads() == []


def test_many_first_calls_open_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = counted_opening(monkeypatch)

    async def use() -> None:
        memory = AsyncMemory(tmp_path / "new.db", embedder=FakeEmbedder(), settings=Settings())
        await asyncio.gather(*(memory.user("ana").remember(f"fact {n}") for n in range(30)))
        assert len(await texts(memory.user("ana"))) == 30
        await memory.close()

    asyncio.run(use())
    assert len(opened) == 1
    assert threading.get_ident() not in opened


def test_an_opening_that_fails_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = counted_opening(monkeypatch)
    file = tmp_path / "life.db"
    file.write_bytes(b"no database " * 100)

    async def use() -> None:
        memory = AsyncMemory(file, embedder=FakeEmbedder(), settings=Settings(), threads=3)
        for _ in range(4):
            calls = [memory.user("ana").remember(f"fact {n}") for n in range(5)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert {type(result) for result in results} == {StoreUnreadable}
        assert len(opened) == 4
        with pytest.raises(StoreUnreadable):
            async with memory:
                raise AssertionError("not opened")
        file.unlink()
        async with memory:
            assert (await memory.user("ana").remember("one")).state == "indexed"

    asyncio.run(use())
    assert len(opened) == 6


def test_an_opening_goes_on_when_a_task_that_waits_for_it_is_cancelled(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go = threading.Event(), threading.Event()

    def make(*args: Any, **kwargs: Any) -> Memory:
        entered.set()
        assert go.wait(LONG)
        return Memory(*args, **kwargs)

    open_memory(db).close()
    monkeypatch.setattr(aio, "Memory", make)

    async def use() -> None:
        memory = open_async(db)
        first = asyncio.create_task(memory.user("ana").remember("first"))
        second = asyncio.create_task(memory.user("ana").remember("second"))
        await happened(entered)
        first.cancel()
        await turns()
        assert first.cancelled()
        go.set()
        await second
        assert await texts(memory.user("ana")) == ["second"]
        await memory.close()

    asyncio.run(use())


def test_entering_reads_the_bundled_model_alone(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []

    def embed(self: MiniLM, texts: Sequence[str]) -> NDArray[np.float32]:
        read.append(threading.get_ident())
        return np.eye(len(texts), self.dimensions, dtype=np.float32)

    fake = FakeEmbedder()

    async def use() -> None:
        async with open_async(db, fake):
            assert fake.calls == 0
        with monkeypatch.context() as patch:
            patch.setattr(MiniLM, "embed", embed)
            async with open_async(tmp_path / "other.db", MiniLM()):
                assert len(read) == 1
        assert threading.get_ident() not in read
        # One that can't be read is told by the receipts of what is remembered.
        async with open_async(tmp_path / "third.db", MiniLM(folder=tmp_path)) as memory:
            receipt = await memory.user("ana").remember("The words are kept.")
            assert receipt.state == "committed"

    asyncio.run(use())


# --- cancelling -----------------------------------------------------------------------------------


def test_a_call_that_is_cancelled_while_it_waits_never_runs(db: Path) -> None:
    embedder = Gated()

    async def use() -> None:
        async with open_async(db, embedder, threads=1) as memory:
            ana = memory.user("ana")
            running = asyncio.create_task(ana.remember("running"))
            await happened(embedder.entered)
            queued = asyncio.create_task(ana.remember("queued"))
            later = asyncio.create_task(ana.remember("later"))
            await turns()
            queued.cancel()
            with pytest.raises(asyncio.CancelledError):
                await queued
            embedder.go.set()
            await asyncio.gather(running, later)
            assert await texts(ana) == ["running", "later"]

    asyncio.run(use())


@pytest.mark.parametrize("stop", ["token_offsets", "embed"], ids=["before", "after"])
def test_a_call_that_is_cancelled_while_it_runs_is_finished_whole(db: Path, stop: str) -> None:
    embedder = Gated(stop)
    # More than one batch of vectors, and of so many characters that their tokens are asked for.
    said = [
        f"fact {n}: of more characters than an embedder takes tokens, whole" for n in range(600)
    ]

    async def use() -> None:
        async with open_async(db, embedder) as memory:
            task = asyncio.create_task(memory.user("ana").remember(said, session="s"))
            await happened(embedder.entered)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not embedder.go.is_set()  # the task was let go at once
            stats = await memory.operator.stats()
            assert stats.messages == (0 if stop == "token_offsets" else 600)
            embedder.go.set()
        async with open_async(db, embedder) as memory:  # closing has waited for the thread
            assert await texts(memory.user("ana")) == said
            stats = await memory.operator.stats()
            assert (stats.messages, stats.jobs) == (600, {})

    asyncio.run(use())


def test_a_timeout_is_a_cancelling(db: Path) -> None:
    embedder = Gated()

    async def use() -> None:
        async with open_async(db, embedder) as memory:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(memory.user("ana").remember("one"), 0.01)
            embedder.go.set()

    asyncio.run(use())


# --- closing --------------------------------------------------------------------------------------


def test_closing_waits_for_what_runs_and_lets_nothing_in(db: Path) -> None:
    embedder = Gated()
    memory = open_async(db, embedder, threads=1)
    ana = memory.user("ana")

    async def use() -> None:
        running = asyncio.create_task(ana.remember("running"))
        queued = asyncio.create_task(ana.remember("queued"))
        await happened(embedder.entered)
        closing = [asyncio.create_task(memory.close()) for _ in range(2)]
        await turns()
        assert not any(task.done() for task in closing)
        with pytest.raises(StoreClosed, match=r"open it again with AsyncMemory"):
            await ana.recall("running")
        embedder.go.set()
        await asyncio.gather(*closing)
        assert [(await task).state for task in (running, queued)] == ["indexed"] * 2
        await memory.close()
        for call in (ana.remember("late"), memory.__aenter__(), memory.operator.stats()):
            with pytest.raises(StoreClosed):
                await call
        with pytest.raises(StoreClosed):
            await texts(ana)

    asyncio.run(use())
    assert_threads_end()


def test_closing_goes_on_when_it_is_cancelled(db: Path) -> None:
    embedder = Gated()

    async def use() -> None:
        memory = open_async(db, embedder)
        running = asyncio.create_task(memory.user("ana").remember("running"))
        await happened(embedder.entered)
        closing = asyncio.create_task(memory.close())
        await turns()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        embedder.go.set()
        assert (await running).state == "indexed"
        await memory.close()

    asyncio.run(use())
    assert_threads_end()


def test_closing_while_it_is_opened(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, go = threading.Event(), threading.Event()
    made: list[Memory] = []

    def make(*args: Any, **kwargs: Any) -> Memory:
        entered.set()
        assert go.wait(LONG)
        made.append(Memory(*args, **kwargs))
        return made[0]

    open_memory(db).close()
    monkeypatch.setattr(aio, "Memory", make)

    async def use() -> None:
        memory = open_async(db)
        call = asyncio.create_task(memory.user("ana").remember("one"))
        await happened(entered)
        closing = asyncio.create_task(memory.close())
        await turns()
        go.set()
        await closing
        with pytest.raises(StoreClosed):
            await call
        with pytest.raises(StoreClosed):
            made[0].operator.stats()

    asyncio.run(use())


def test_closing_what_was_never_opened(tmp_path: Path) -> None:
    memory = AsyncMemory(tmp_path / "life.db", settings=Settings())
    asyncio.run(memory.close())
    asyncio.run(memory.close())
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_the_block_comes_through(db: Path) -> None:
    async def use() -> None:
        async with open_async(db) as memory:
            await memory.user("ana").remember("one")
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        asyncio.run(use())


def test_one_that_nobody_closed_leaves_no_thread_and_no_connection(db: Path) -> None:
    memory = open_async(db)
    asyncio.run(memory.user("ana").remember("one"))
    opened = memory._pool._memory
    assert opened is not None
    core = weakref.ref(opened._core)
    assert len(pool_threads()) == 4
    del memory, opened
    assert_threads_end()
    gc.collect()
    assert core() is None


# --- loops and processes --------------------------------------------------------------------------


def test_one_object_serves_loops_one_after_another_and_at_once(db: Path) -> None:
    memory = open_async(db)
    ana = memory.user("ana")

    async def use(name: str) -> None:
        await asyncio.gather(*(ana.remember(f"{name} {n}") for n in range(10)))
        assert len(await ana.recall(name, limit=10)) == 10

    asyncio.run(use("first"))
    asyncio.run(use("second"))
    failed: list[BaseException] = []

    def loop(name: str) -> None:
        try:
            asyncio.run(use(name))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=loop, args=(name,)) for name in ("third", "fourth")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert failed == []
    assert len(asyncio.run(texts(ana))) == 40
    asyncio.run(memory.close())


FORK = """
import asyncio, os, sys
from pathlib import Path
from mnemic import AsyncMemory, StoreClosed
from mnemic.settings import Settings
from tests.fakes import FakeEmbedder

memory = AsyncMemory(sys.argv[1], embedder=FakeEmbedder(), settings=Settings(), threads=3)
ana = memory.user("ana")

async def texts():
    return sorted([record.text async for record in ana.iter_memories()])

asyncio.run(ana.remember("before"))
child = os.fork()
if child == 0:
    code = 1
    try:
        asyncio.run(ana.remember("child"))
        found = asyncio.run(ana.recall("before child"))
        asyncio.run(memory.close())
        code = 0 if len(found) >= 2 else 2
    finally:
        os._exit(code)
asyncio.run(ana.remember("parent"))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert asyncio.run(texts()) == ["before", "child", "parent"]
asyncio.run(memory.close())
child = os.fork()
if child == 0:
    code = 1
    try:
        try:
            asyncio.run(ana.remember("late"))
        except StoreClosed:
            asyncio.run(memory.close())  # nothing to wait for
            code = 0
    finally:
        os._exit(code)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_a_forked_child_has_threads_of_its_own(db: Path) -> None:
    """In a process of its own, so that the fork copies neither pytest nor its threads."""
    command = [sys.executable, "-W", "ignore", "-c", FORK, str(db)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_importing_it_loads_no_model() -> None:
    code = (
        "import sys; from mnemic.aio import AsyncMemory; AsyncMemory('x.db');"
        "print([m for m in ('onnxruntime', 'tokenizers', 'alembic', 'typer') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# --- iterating ------------------------------------------------------------------------------------


def test_iterating_fetches_in_the_pool_and_lets_the_loop_run(db: Path) -> None:
    said = [f"fact {n}" for n in range(750)]

    async def use() -> None:
        since, most, found = 0, 0, []  # items since the loop had its turn

        async def beat() -> None:
            nonlocal since
            while True:
                await asyncio.sleep(0)
                since = 0

        async with open_async(db) as memory:
            ana = memory.user("ana")
            assert await texts(ana) == []
            await ana.remember(said, session="s")
            beating = asyncio.create_task(beat())
            with database_threads() as seen:
                async for record in ana.iter_memories():
                    found.append(record.text)
                    since += 1
                    most = max(most, since)
            beating.cancel()
            assert found == said
            assert most <= awaiting.FETCH
            assert threading.get_ident() not in seen

    asyncio.run(use())


def test_iterating_may_end_early(db: Path) -> None:
    async def first(items: AsyncGenerator[MemoryRecord, None]) -> str:
        async with aclosing(items):
            async for record in items:
                return record.text
        raise AssertionError("nothing was there")

    async def use() -> None:
        async with open_async(db) as memory:
            ana = memory.user("ana")
            await ana.remember([f"fact {n}" for n in range(250)], session="s")
            assert await first(ana.iter_memories()) == "fact 0"
            async for record in ana.iter_memories():
                assert record.text == "fact 0"
                break
            assert memory._pool._memory is not None
            pool: Any = memory._pool._memory._core.database.engine.pool
            assert pool.checkedout() == 0
            assert (await ana.forget_everything()).state == "clean"  # no reader stands in the way

    asyncio.run(use())


def test_closing_ends_an_iteration(db: Path) -> None:
    async def use() -> None:
        memory = open_async(db)
        await memory.user("ana").remember([f"fact {n}" for n in range(250)], session="s")
        items = memory.user("ana").iter_memories()
        await anext(items)
        await memory.close()
        with pytest.raises(StoreClosed):
            async for _ in items:
                pass

    asyncio.run(use())
