"""`Memory` for asyncio: the same methods, awaited, on a few threads of its own.

Each async method is made of the plain one by `awaited`, so parameters, results, errors and docstrings
are the plain one's. `Pool` is where all of it runs: the event loop's own thread touches neither the
database nor the model.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

from mnemic.awaiting import Handle, Pool, alone, awaited, streamed
from mnemic.errors import EmbedderError, InputError
from mnemic.inputs import kind_of, read_name
from mnemic.layers.facts import Facts
from mnemic.layers.procedural import Procedures
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

R = TypeVar("R")


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
        short_term: str | None = None,
    ) -> None:
        settings = read_settings(settings)
        if threads is None:
            bundled = embedder is None and settings.embedder_url is None
            threads = COMPUTING if bundled or isinstance(embedder, MiniLM) else WAITING
        if isinstance(threads, bool) or not isinstance(threads, int):
            raise InputError(f"threads must be a whole number, not {kind_of(threads)}")
        if not 1 <= threads <= MOST_THREADS:
            raise InputError(f"threads must be from 1 to {MOST_THREADS}, not {threads}")
        make = partial(Memory, target, embedder=embedder, settings=settings, short_term=short_term)
        self._pool = Pool(make, threads)

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

    def __init__(self, pool: Pool, name: str) -> None:
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


class AsyncScopedMemory(Handle[ScopedMemory]):
    """The memory of one user, agent or shared space. Nothing here reaches beyond its scope."""

    def __init__(self, pool: Pool, scope: Scope) -> None:
        super().__init__(pool)
        self.scope = scope
        self.facts = AsyncFacts(pool, scope)
        self.procedures = AsyncProcedures(pool, scope)

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
    context = awaited(ScopedMemory.context)
    get = awaited(ScopedMemory.get)
    iter_memories = streamed(ScopedMemory.iter_memories)
    history = awaited(ScopedMemory.history)
    pin = awaited(ScopedMemory.pin)
    unpin = awaited(ScopedMemory.unpin)
    forget = awaited(ScopedMemory.forget)
    forget_session = awaited(ScopedMemory.forget_session)
    forget_everything = awaited(ScopedMemory.forget_everything)
    sessions = awaited(ScopedMemory.sessions)
    set_timezone = awaited(ScopedMemory.set_timezone)
    timezone = awaited(ScopedMemory.timezone)


class AsyncFacts(Handle[Facts]):
    """The facts of one scope. Nothing here reaches beyond it."""

    def __init__(self, pool: Pool, scope: Scope) -> None:
        super().__init__(pool)
        self._scope = scope

    def _plain(self, memory: Memory) -> Facts:
        return Facts(memory._core, self._scope)

    remember = awaited(Facts.remember)
    recall = awaited(Facts.recall)
    get = awaited(Facts.get)
    iter_facts = streamed(Facts.iter_facts)
    profile = awaited(Facts.profile)
    forget = awaited(Facts.forget)


class AsyncProcedures(Handle[Procedures]):
    """The instructions of one scope, by name. Nothing here reaches beyond it."""

    def __init__(self, pool: Pool, scope: Scope) -> None:
        super().__init__(pool)
        self._scope = scope

    def _plain(self, memory: Memory) -> Procedures:
        return Procedures(memory._core, self._scope)

    remember = awaited(Procedures.remember)
    revise = awaited(Procedures.revise)
    roll_back = awaited(Procedures.roll_back)
    enable = awaited(Procedures.enable)
    disable = awaited(Procedures.disable)
    get = awaited(Procedures.get)
    history = awaited(Procedures.history)
    iter_procedures = streamed(Procedures.iter_procedures)
    load = awaited(Procedures.load)
    active = awaited(Procedures.active)
    learn = awaited(Procedures.learn)
    proposals = awaited(Procedures.proposals)
    approve = awaited(Procedures.approve)
    reject = awaited(Procedures.reject)
    forget = awaited(Procedures.forget)


class AsyncOperator(Handle[Operator]):
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
