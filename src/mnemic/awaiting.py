"""What async twins are made with: plain methods awaited, on the few threads of a pool.

The twins are `aio.py`'s. The event loop's own thread touches neither the database nor the model.
"""

from __future__ import annotations

import threading
from asyncio import shield, wrap_future
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from functools import partial, wraps
from itertools import islice
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from mnemic.errors import StoreClosed
from mnemic.forking import renew_in_child
from mnemic.memory import Memory

# The module that the twins are in, as their methods say of themselves.
TWINS = "mnemic.aio"
# How many items of an iteration are fetched at once; between two fetches the loop has its turn.
FETCH = 100

Plain = TypeVar("Plain")
P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])


class Pool:
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


class Handle(Generic[Plain]):
    """What async handles have in common: a pool, and the plain handle that it works on."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def _plain(self, memory: Memory) -> Plain:
        raise NotImplementedError


def awaited(
    method: Callable[Concatenate[Plain, P], R],
) -> Callable[Concatenate[Handle[Plain], P], Coroutine[Any, Any, R]]:
    """Make the async method of a plain one: the same call, in a thread."""

    @wraps(method)
    async def call(handle: Handle[Plain], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await handle._pool.run(lambda memory: method(handle._plain(memory), *args, **kwargs))

    return named(call, method)


def streamed(
    method: Callable[Concatenate[Plain, P], Iterator[R]],
) -> Callable[Concatenate[Handle[Plain], P], AsyncGenerator[R, None]]:
    """Make the async iterator of a plain one that holds nothing between two items."""

    @wraps(method)
    async def call(
        handle: Handle[Plain], /, *args: P.args, **kwargs: P.kwargs
    ) -> AsyncGenerator[R, None]:
        items = await handle._pool.run(
            lambda memory: method(handle._plain(memory), *args, **kwargs)
        )
        while fetched := await handle._pool.run(lambda _: list(islice(items, FETCH))):
            for item in fetched:
                yield item

    return named(call, method)


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

    return named(call, function)


def named(call: F, method: Callable[..., Any]) -> F:
    """Let an async method say of itself that it is one, in tracebacks and to `pickle`."""
    call.__module__ = TWINS
    call.__qualname__ = f"Async{method.__qualname__}"
    return call
