"""`Memory` for asyncio: the same methods, awaited, on a few threads of its own.

Each async method is made of the plain one by `awaited`, so parameters, results, errors and docstrings
are the plain one's. `_Pool` is where all of it runs: the event loop's own thread touches neither the
database nor the model.
"""

from __future__ import annotations

import os
import threading
from asyncio import shield, wrap_future
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from contextvars import copy_context
from functools import partial, wraps
from itertools import islice
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, Unpack

from mnemic.errors import EmbedderError, InputError, StoreClosed
from mnemic.forking import renew_in_child
from mnemic.inputs import kind_of, read_name
from mnemic.layers.sensory import AsyncSensoryBuffer, StreamFields, read_stream, stream_async
from mnemic.memory import Memory, Operator, ScopedMemory
from mnemic.models.embedder import Embedder, embed_checked
from mnemic.models.minilm import MiniLM
from mnemic.records import DEFAULT_TENANT, Scope, ScopeKind
from mnemic.settings import Settings, read_settings

# Calls at once. With the bundled model they compute, and more than two keep each other, and the loop,
# waiting for Python's lock (docs/async.md has the figures). Another embedder is mostly waited for.
COMPUTING, WAITING = 2, 8
# As many as the database has connections.
MOST_THREADS = 32
# How many items of an iteration are fetched at once; between two fetches the loop has its turn.
FETCH = 100

Plain = TypeVar("Plain")
P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class _Pool:
    """The threads of one `AsyncMemory`, and the `Memory` that they open once and work on."""

    def __init__(self, make: Callable[[], Memory], threads: int) -> None:
        self._make = make
        self._threads = threads
        self._memory: Memory | None = None
        self._closing: Future[None] | None = None
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Begin without threads; in a child process too, where what was under way is the parent's."""
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(self._threads, "mnemic-aio")
        self._calls: set[Future[Any]] = set()
        self._ready = False
        self._opening: Future[Memory] | None = None  # while it is under way
        if self._closing is not None:
            self._closing = Future()
            self._closing.set_result(None)

    @property
    def memory(self) -> Memory | None:
        """The memory that the threads work on, if it is open by now."""
        return self._memory if self._ready else None

    async def run(self, work: Callable[[Memory], R]) -> R:
        """Have a thread do some work on the open memory, with the caller's context variables."""
        memory = await self._opened()
        context = copy_context()
        with self._lock:
            self._require_open()
            call = self._executor.submit(context.run, work, memory)
            self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return await wrap_future(call)

    async def close(self) -> None:
        """Let what was begun finish, then close the memory and end the threads."""
        with self._lock:
            if self._closing is None:
                begun = [self._opening] if self._opening else []
                work = partial(_end, self._executor, self._memory, begun, list(self._calls))
                self._closing = self._executor.submit(work)
                self._memory = None
            closing = self._closing
        await shield(wrap_future(closing))

    def _require_open(self) -> None:
        if self._closing is not None:
            raise StoreClosed("this memory was closed; open it again with AsyncMemory(...)")

    async def _opened(self) -> Memory:
        with self._lock:
            self._require_open()
            if self._memory is not None and self._ready:
                return self._memory
            if self._opening is None:
                self._opening = self._executor.submit(self._open)
            opening = self._opening
        # Shielded, because others wait for the same one.
        return await shield(wrap_future(opening))

    def _open(self) -> Memory:
        memory = self._memory  # open already in a child process, which only lacks the threads
        try:
            self._start_threads()
            if memory is None:
                memory = self._make()
            return memory
        finally:
            with self._lock:
                self._memory, self._ready = memory, memory is not None
                self._opening = None

    def _start_threads(self) -> None:
        """Start all of them now: one that starts under load keeps the caller, the loop, waiting."""
        started = threading.Event()
        try:
            for _ in range(self._threads - 1):  # beside the one that this runs in
                self._executor.submit(started.wait)
        finally:
            started.set()


def _end(
    executor: ThreadPoolExecutor,
    memory: Memory | None,
    opening: Sequence[Future[Memory]],
    calls: Sequence[Future[Any]],
) -> None:
    """Wait for what was begun, in a thread of the pool, which takes up nothing after this."""
    try:
        wait([*opening, *calls])
        for opened in opening:
            memory = None if opened.exception() else opened.result()
        if memory is not None:
            memory.close()
    finally:
        executor.shutdown(wait=False)


class _Handle(Generic[Plain]):
    """What async handles have in common: a pool, and the plain handle that it works on."""

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool

    def _plain(self, memory: Memory) -> Plain:
        raise NotImplementedError


def awaited(
    method: Callable[Concatenate[Plain, P], R],
) -> Callable[Concatenate[_Handle[Plain], P], Coroutine[Any, Any, R]]:
    """Make the async method of a plain one: the same call, in a thread."""

    @wraps(method)
    async def call(handle: _Handle[Plain], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await handle._pool.run(lambda memory: method(handle._plain(memory), *args, **kwargs))

    return _named(call, method)


def streamed(
    method: Callable[Concatenate[Plain, P], Iterator[R]],
) -> Callable[Concatenate[_Handle[Plain], P], AsyncGenerator[R, None]]:
    """Make the async iterator of a plain one that holds nothing between two items."""

    @wraps(method)
    async def call(
        handle: _Handle[Plain], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncGenerator[R, None]:
        items = await handle._pool.run(
            lambda memory: method(handle._plain(memory), *args, **kwargs)
        )
        while fetched := await handle._pool.run(lambda _: list(islice(items, FETCH))):
            for item in fetched:
                yield item

    return _named(call, method)


def alone(function: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Make the async twin of what needs no open memory: the same call, in a thread of its own."""

    @wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        executor = ThreadPoolExecutor(1, "mnemic-aio")
        try:
            work = partial(function, *args, **kwargs)
            return await wrap_future(executor.submit(copy_context().run, work))
        finally:
            executor.shutdown(wait=False)

    return _named(call, function)


def _named(call: F, method: Callable[..., Any]) -> F:
    """Let an async method say of itself that it is one, in tracebacks and to `pickle`."""
    call.__module__ = __name__
    call.__qualname__ = f"Async{method.__qualname__}"
    return call


class AsyncMemory:
    """An open store of memories, for asyncio. Use it in an `async with` block, or `await close()`.

    Takes what `Memory` takes. `threads` is how many calls run at once, while the others wait their turn:
    2 with the bundled model, 8 with another embedder, unless given. Making one opens nothing: that is
    done in a thread, at `async with` or at the first awaited call, which raises what `Memory` would;
    the next one tries again. `async with` has the bundled model read as well. One object serves any
    number of tasks, loops and threads.

    A call that is cancelled before a thread took it up is never run. One that runs is finished by its
    thread, and what it committed stays: all of it or nothing.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | None = None,
        *,
        embedder: Embedder | None = None,
        settings: Settings | None = None,
        threads: int | None = None,
    ) -> None:
        settings = read_settings(settings)
        if threads is None:
            bundled = embedder is None and settings.embedder_url is None
            threads = COMPUTING if bundled or isinstance(embedder, MiniLM) else WAITING
        if isinstance(threads, bool) or not isinstance(threads, int):
            raise InputError(f"threads must be a whole number, not {kind_of(threads)}")
        if not 1 <= threads <= MOST_THREADS:
            raise InputError(f"threads must be from 1 to {MOST_THREADS}, not {threads}")
        make = partial(Memory, target, embedder=embedder, settings=settings)
        self._pool = _Pool(make, threads)

    restore = staticmethod(alone(Memory.restore))

    def user(self, name: str) -> AsyncScopedMemory:
        """The memory of one user, which nobody else's handle can see."""
        return AsyncTenant(self._pool, DEFAULT_TENANT).user(name)

    def agent(self, name: str) -> AsyncScopedMemory:
        """The memory of one agent."""
        return AsyncTenant(self._pool, DEFAULT_TENANT).agent(name)

    def shared(self, name: str) -> AsyncScopedMemory:
        """A space that several users or agents are given a handle to."""
        return AsyncTenant(self._pool, DEFAULT_TENANT).shared(name)

    def tenant(self, name: str) -> AsyncTenant:
        """A customer of yours: the same user name in two tenants is two users."""
        return AsyncTenant(self._pool, read_name(name, "tenant"))

    @property
    def operator(self) -> AsyncOperator:
        """What concerns all scopes at once: ids, states and counts, never text."""
        return AsyncOperator(self._pool)

    async def close(self) -> None:
        """Let the calls under way finish, then give back every connection and thread.

        Closing goes on if the caller is cancelled; closing again waits for the same end.
        """
        await self._pool.close()

    async def __aenter__(self) -> Self:
        await self._pool.run(_read_model)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def _read_model(memory: Memory) -> None:
    """Read the bundled model now: parts of that keep the loop waiting, which is better before work.

    Without it words are kept all the same, so opening doesn't fail for it. Another embedder isn't
    asked: a call of it may cost money.
    """
    embedder = memory._core.embedder
    if isinstance(embedder, MiniLM):
        with suppress(EmbedderError):
            embed_checked(embedder, ["ready"])


class AsyncTenant:
    """The users, agents and shared spaces of one tenant."""

    def __init__(self, pool: _Pool, name: str) -> None:
        self._pool = pool
        self.name = name

    def user(self, name: str) -> AsyncScopedMemory:
        """The memory of one user of this tenant."""
        return self._scoped("user", name)

    def agent(self, name: str) -> AsyncScopedMemory:
        """The memory of one agent of this tenant."""
        return self._scoped("agent", name)

    def shared(self, name: str) -> AsyncScopedMemory:
        """A shared space of this tenant."""
        return self._scoped("shared", name)

    def _scoped(self, kind: ScopeKind, name: str) -> AsyncScopedMemory:
        return AsyncScopedMemory(self._pool, Scope(self.name, kind, read_name(name, kind)))


class AsyncScopedMemory(_Handle[ScopedMemory]):
    """The memory of one user, agent or shared space. Nothing here reaches beyond its scope."""

    def __init__(self, pool: _Pool, scope: Scope) -> None:
        super().__init__(pool)
        self.scope = scope

    def _plain(self, memory: Memory) -> ScopedMemory:
        return ScopedMemory(memory._core, self.scope)

    def stream(
        self,
        tokens: AsyncIterable[R],
        *,
        session: str | None = None,
        text: Callable[[R], str | None] | None = None,
        every: float = 0.5,
        **said: Unpack[StreamFields],
    ) -> AsyncSensoryBuffer[R]:
        """`ScopedMemory.stream` for a reply that is read by `async for`; it isn't awaited itself."""

        def run(work: Callable[[ScopedMemory], None]) -> Coroutine[Any, Any, None]:
            return self._pool.run(lambda memory: work(self._plain(memory)))

        memory = self._pool.memory
        handle = None if memory is None else self._plain(memory)
        return stream_async(tokens, read_stream(session, text, every, said), run, handle)

    remember = awaited(ScopedMemory.remember)
    recall = awaited(ScopedMemory.recall)
    get = awaited(ScopedMemory.get)
    iter_memories = streamed(ScopedMemory.iter_memories)
    history = awaited(ScopedMemory.history)
    pin = awaited(ScopedMemory.pin)
    unpin = awaited(ScopedMemory.unpin)
    forget = awaited(ScopedMemory.forget)
    forget_session = awaited(ScopedMemory.forget_session)
    forget_everything = awaited(ScopedMemory.forget_everything)
    set_timezone = awaited(ScopedMemory.set_timezone)
    timezone = awaited(ScopedMemory.timezone)


class AsyncOperator(_Handle[Operator]):
    """What concerns all scopes at once. It sees ids, states and counts, never text.

    Where a method takes a `progress`, that is called in the thread that does the work; from there
    `loop.call_soon_threadsafe` reaches the loop.
    """

    def _plain(self, memory: Memory) -> Operator:
        return memory.operator

    stats = awaited(Operator.stats)
    scopes = awaited(Operator.scopes)
    reembed = awaited(Operator.reembed)
    backup = awaited(Operator.backup)
    check = awaited(Operator.check)
    upkeep = awaited(Operator.upkeep)
    repair = awaited(Operator.repair)
