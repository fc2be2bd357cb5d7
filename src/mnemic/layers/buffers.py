"""The two faces of a stream that is being read, for `for` and for `async for`.

Tokens pass through as they are and at once; what is written is written by other threads (`flushing.py`), or
when the stream is over.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from contextlib import nullcontext, suppress
from functools import partial
from inspect import isawaitable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar
from weakref import ref

from mnemic.errors import InputError, MnemicError
from mnemic.layers.arrival import Arrival
from mnemic.layers.parts import Handle
from mnemic.records import Receipt, StreamStats

T = TypeVar("T")
P = TypeVar("P")
Work = Callable[[Handle], None]


class _Buffer:
    """What both kinds of buffer show."""

    def __init__(self, tokens: Any, arrival: Arrival) -> None:
        self._tokens = tokens
        self._arrival = arrival
        self._managed = self._closing = False
        self._held: Any = None
        self._refused: BaseException | None = None

    @property
    def message_id(self) -> str:
        """The id of the message that the stream becomes."""
        return self._arrival.message.id

    @property
    def text(self) -> str:
        """What has arrived so far."""
        return self._arrival.text

    @property
    def stats(self) -> StreamStats:
        """The measures, up to now or to the end."""
        return self._arrival.stats

    @property
    def receipt(self) -> Receipt | None:
        """What was committed; None before the end, and where nothing was."""
        return self._arrival.receipt

    def _reading(self, reading: P) -> P:
        """Take note of the only iterator there will be."""
        if self._arrival.reader is not None:
            raise InputError("a stream can be read once only; `text` has what arrived")
        # Weakly: an iterator that is dropped has been left, though the buffer may stay. In a `with` block
        # it is the block's end that counts.
        self._arrival.reader = ref(reading)
        self._held = reading if self._managed else None
        return reading

    def _close_early(self) -> Callable[[], Any] | None:
        """What closes the source; None where it came to its own end."""
        tokens, self._tokens = self._tokens, ()
        close = getattr(tokens, "aclose", getattr(tokens, "close", None))
        return close if self._arrival.broke_off and callable(close) else None

    def _was_refused(self, error: BaseException | None) -> bool:
        """Whether an error comes by that tells already that the store failed: no second try now."""
        return error is not None and error is self._refused

    def _note(self, failed: MnemicError, error: BaseException | None) -> None:
        """Tell the caller that what arrived isn't kept yet; the error under way goes first."""
        self._refused = failed if error is None else error
        self._arrival.leave(wait=False)  # the flusher tries again, where that may help
        if error is None:
            raise failed
        error.add_note(f"what had arrived of the stream is not kept yet: {failed}")


class SensoryBuffer(_Buffer, Generic[T]):
    """A stream of tokens that is being read, and remembered. Iterate it once; use it in a `with` block.

    When the stream ends, what arrived is committed as `remember` does it; when it fails, is cancelled,
    or is left early, it is as well, marked as interrupted. An error of the stream comes out unchanged. A
    store that fails is noticed at the end only: then the loop raises `StoreError`, after the last token.
    """

    def __init__(self, tokens: Iterable[T], arrival: Arrival, handle: Handle) -> None:
        super().__init__(tokens, arrival)
        self._handle = arrival.handle = handle

    def __iter__(self) -> Iterator[T]:
        return self._reading(self._read())

    def close(self) -> None:
        """End it now: what has arrived is committed, and the source is closed if it can be.

        May be called from another thread, and again where the store had failed. Raises what
        `remember` would.
        """
        self._end(None)

    def __enter__(self) -> Self:
        self._managed = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end(error)

    def _read(self) -> Generator[T, None, None]:
        arrival = self._arrival
        arrival.begin()
        self._handle._core.flusher.watch(arrival)
        take, ended = arrival.take, False
        try:
            for token in self._tokens:
                take(token)
                yield token
            ended = True
        finally:
            self._ended(None if ended else sys.exception())

    def _ended(self, error: BaseException | None) -> None:
        self._arrival.over(error)
        if not isinstance(error, GeneratorExit):
            self._commit(error)
        elif not self._closing:
            self._arrival.leave()

    def _end(self, error: BaseException | None) -> None:
        self._closing = True
        self._arrival.over(GeneratorExit() if error is None else error)
        reading = None if self._arrival.reader is None else self._arrival.reader()
        busy = False
        if reading is not None:
            try:
                reading.close()
            except ValueError:
                busy = True  # another thread waits for the next token
        self._held = None
        self._commit(error)
        close = self._close_early()
        if close is not None:
            with suppress(ValueError) if busy else nullcontext():
                close()

    def _commit(self, error: BaseException | None) -> None:
        if self._was_refused(error):
            return
        try:
            _finish(self._arrival, self._handle)
        except MnemicError as failed:
            self._note(failed, error)


class AsyncSensoryBuffer(_Buffer, Generic[T]):
    """`SensoryBuffer` around an asynchronous stream: `async for`, in an `async with` block.

    The commit at the end is made in a thread while the loop goes on; it is made, too, if the task is
    cancelled meanwhile.
    """

    def __init__(
        self,
        tokens: AsyncIterable[T],
        arrival: Arrival,
        run: Callable[[Work], Awaitable[None]],
    ) -> None:
        super().__init__(tokens, arrival)
        self._run = run
        self._tasks: set[asyncio.Future[None]] = set()

    def __aiter__(self) -> AsyncIterator[T]:
        return self._reading(self._read())

    async def aclose(self) -> None:
        """End it now: what has arrived is committed, and the source is closed if it can be.

        May be called again where the store had failed. Raises what `remember` would.
        """
        await self._end(None)

    async def __aenter__(self) -> Self:
        self._managed = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._end(error)

    async def _read(self) -> AsyncGenerator[T, None]:
        arrival = self._arrival
        arrival.begin()
        if arrival.handle is not None:
            arrival.handle._core.flusher.watch(arrival)
        else:
            self._begun(partial(_watch, arrival))  # the memory may not be open yet
        take, ended = arrival.take, False
        try:
            async for token in self._tokens:
                take(token)
                yield token
            ended = True
        finally:
            error = None if ended else sys.exception()
            arrival.over(error)
            if not isinstance(error, GeneratorExit):
                await self._commit(error)
            elif not self._closing:
                arrival.leave(wait=False)

    async def _end(self, error: BaseException | None) -> None:
        self._closing = True
        self._arrival.over(GeneratorExit() if error is None else error)
        reading = None if self._arrival.reader is None else self._arrival.reader()
        if reading is not None:
            with suppress(RuntimeError):  # another task waits for the next token
                await reading.aclose()
        self._held = None
        await self._commit(error)
        close = self._close_early()
        if close is not None:
            closed = close()
            if isawaitable(closed):
                await closed

    async def _commit(self, error: BaseException | None) -> None:
        if self._was_refused(error):
            return
        try:
            # Shielded: a task that is cancelled is let go, and the commit goes on.
            await asyncio.shield(self._begun(partial(_finish, self._arrival)))
        except MnemicError as failed:
            self._note(failed, error)

    def _begun(self, work: Work) -> asyncio.Future[None]:
        """Have some work done in a thread, whether or not somebody waits for it."""
        task = asyncio.ensure_future(self._run(work))
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Future[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it was told, or comes again at the end


def _watch(arrival: Arrival, handle: Handle) -> None:
    handle._core.writer()
    arrival.handle = handle
    if not arrival.done:
        handle._core.flusher.watch(arrival)


def _finish(arrival: Arrival, handle: Handle) -> None:
    arrival.handle = handle
    if arrival.done:
        return
    arrival.finish()
    receipt = arrival.receipt
    if receipt is not None:
        handle._upkeep(heal=receipt.error is None)
