"""The one event loop that owns every call of a language model: a daemon thread, made at first use.

Async clients stay bound to the loop on which they were first used, so all of them live on this one, and
callers wait for it from whatever thread they are in, one that runs a loop of its own too.
"""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from mnemic.errors import ModelError
from mnemic.forking import renew_in_child

T = TypeVar("T")
Make = Callable[[], Coroutine[Any, Any, T]]
Closer = Callable[[], Awaitable[object]]

# How long the end of the process waits for calls to be cancelled and connections to be closed, in seconds.
PATIENCE = 2.0
# What a child process inherits of its parent's loops is never touched, not even collected: they share
# what the kernel keeps of their sockets.
_inherited: list[object] = []


class ModelLoop:
    """An event loop in a thread, and what is to be closed when it ends."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closers: dict[object, Closer] = {}
        # A model that is let go is closed by the garbage collector, whatever this thread is amidst.
        self._lock = threading.RLock()
        renew_in_child(self)

    def renew(self) -> None:
        """Begin without a thread; in a child process what was under way is the parent's."""
        _inherited.append((self._loop, self._closers))
        self._lock = threading.RLock()
        self._loop = self._thread = None
        self._closers = {}

    def start(self, make: Make[T]) -> Future[T]:
        """Begin a call; `make` is called once, by this thread, for the coroutine that is run."""
        with self._lock:
            if self._loop is None:
                self._loop, self._thread = _started()
            if threading.current_thread() is self._thread:
                raise ModelError("a call of a model can't wait for another from within its loop")
            return asyncio.run_coroutine_threadsafe(make(), self._loop)

    def run(self, make: Make[T], timeout_s: float) -> T:
        """Have a call done; raises `TimeoutError` after so many seconds.

        A call that nobody waits for any more, after that or a Ctrl-C, is cancelled.
        """
        call = self.start(make)
        try:
            return call.result(timeout_s)
        finally:
            call.cancel()  # does nothing to one that is done

    def on_close(self, key: object, closer: Closer) -> None:
        """Have something closed with the loop, unless `close_now` does it before."""
        with self._lock:
            self._closers[key] = closer

    def close_now(self, key: object) -> None:
        """Begin to close what was to be closed with the loop; waits for nothing."""
        with self._lock:
            closer, loop = self._closers.pop(key, None), self._loop
        if closer is not None and loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and closed it
                asyncio.run_coroutine_threadsafe(_closed([closer]), loop)

    def close(self) -> None:
        """Cancel what is under way, close what is open, end the thread; a later call begins anew."""
        with self._lock:
            loop, thread = self._loop, self._thread
            closers = list(self._closers.values())
            self._loop = self._thread = None
            self._closers = {}
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(_ended(closers), loop)
            thread.join(2 * PATIENCE)


def _started() -> tuple[asyncio.AbstractEventLoop, threading.Thread]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=_serve, args=(loop,), name="mnemic-models", daemon=True)
    thread.start()
    return loop, thread


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


async def _ended(closers: list[Closer]) -> None:
    loop = asyncio.get_running_loop()
    try:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=PATIENCE)
        await _closed(closers)
        await loop.shutdown_asyncgens()
    finally:
        loop.stop()


async def _closed(closers: list[Closer]) -> None:
    for closer in closers:
        # A connection that is lost already has nothing to say to its end.
        with suppress(TimeoutError, OSError, RuntimeError):
            await asyncio.wait_for(_of(closer), PATIENCE)


async def _of(closer: Closer) -> None:
    await closer()


LOOP = ModelLoop()
atexit.register(LOOP.close)
