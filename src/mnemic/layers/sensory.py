"""Sensory memory: a buffer around a model's token stream, which keeps the reply also if it breaks off.

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
    Mapping,
    Sequence,
)
from contextlib import nullcontext, suppress
from datetime import UTC, datetime
from functools import partial
from inspect import isawaitable
from types import TracebackType
from typing import Any, Generic, Self, TypedDict, TypeVar, Unpack, overload
from weakref import ref

from mnemic.errors import InputError, MnemicError
from mnemic.inputs import kind_of, shown
from mnemic.layers.arrival import Arrival
from mnemic.layers.parts import Handle
from mnemic.records import Receipt, Role, StreamStats
from mnemic.stores.making import MEASURES
from mnemic.writing.messages import read_input

# Seconds between two flushes.
LEAST_EVERY, MOST_EVERY = 0.05, 60.0

T = TypeVar("T")
P = TypeVar("P")
Work = Callable[[Handle], None]


class StreamFields(TypedDict, total=False):
    """What the message that a stream becomes may be given: fields that `remember` takes."""

    role: Role
    name: str
    id: str
    said_at: datetime | str | float
    expires_at: datetime | str | float
    tags: Sequence[str]
    metadata: Mapping[str, Any]


class _Buffer:
    """What both kinds of buffer show."""

    def __init__(self, arrival: Arrival) -> None:
        self._arrival = arrival
        self._closing = False
        self._refused: MnemicError | None = None

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
        # Weakly: an iterator that is dropped has been left, though the buffer may stay.
        self._arrival.reader = ref(reading)
        return reading

    def _note(self, failed: MnemicError, error: BaseException | None) -> None:
        """Tell the caller that what arrived isn't kept yet; the error under way goes first."""
        self._refused = failed
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
        super().__init__(arrival)
        self._tokens = tokens
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
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or error is not self._refused:
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
        early = self._arrival.over(GeneratorExit() if error is None else error)
        reading = None if self._arrival.reader is None else self._arrival.reader()
        busy = False
        if reading is not None:
            try:
                reading.close()
            except ValueError:
                busy = True  # another thread waits for the next token
        self._commit(error)
        close = getattr(self._tokens, "close", None)
        if early and callable(close):
            with suppress(ValueError) if busy else nullcontext():
                close()

    def _commit(self, error: BaseException | None) -> None:
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
        super().__init__(arrival)
        self._tokens = tokens
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
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None or error is not self._refused:
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
        early = self._arrival.over(GeneratorExit() if error is None else error)
        reading = None if self._arrival.reader is None else self._arrival.reader()
        if reading is not None:
            with suppress(RuntimeError):  # another task waits for the next token
                await reading.aclose()
        await self._commit(error)
        close = getattr(self._tokens, "aclose", getattr(self._tokens, "close", None))
        if early and callable(close):
            closed = close()
            if isawaitable(closed):
                await closed

    async def _commit(self, error: BaseException | None) -> None:
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


@overload
def stream(
    self: Handle,
    tokens: Iterable[T],
    *,
    session: str | None = None,
    text: Callable[[T], str | None] | None = None,
    every: float = 0.5,
    **said: Unpack[StreamFields],
) -> SensoryBuffer[T]: ...
@overload
def stream(
    self: Handle,
    tokens: AsyncIterable[T],
    *,
    session: str | None = None,
    text: Callable[[T], str | None] | None = None,
    every: float = 0.5,
    **said: Unpack[StreamFields],
) -> AsyncSensoryBuffer[T]: ...
def stream(
    self: Handle,
    tokens: Iterable[T] | AsyncIterable[T],
    *,
    session: str | None = None,
    text: Callable[[T], str | None] | None = None,
    every: float = 0.5,
    **said: Unpack[StreamFields],
) -> SensoryBuffer[T] | AsyncSensoryBuffer[T]:
    """Read a model's reply through a buffer that remembers it, whole or as far as it came.

    `tokens` are strings, or chunks as the clients of OpenAI, Anthropic and LangChain give them; `text` is
    a function from any other chunk to its text. They pass unchanged and at once. What has arrived is
    flushed every so many seconds (0.05 to 60), so that a process that is killed loses no more than that.
    The message is the assistant's unless `role` says otherwise; `name`, `id`, `said_at`, `expires_at`,
    `tags` and `metadata` are as in `remember`. Raises `InputError` before anything is read.
    """
    arrival = read_stream(session, text, every, said)
    if isinstance(tokens, Iterable) and not isinstance(tokens, str | bytes | bytearray | Mapping):
        self._core.writer()  # refuses what the end would
        return SensoryBuffer(tokens, arrival, self)
    if isinstance(tokens, AsyncIterable):
        self._core.writer()
        arrival.handle = self
        return AsyncSensoryBuffer(tokens, arrival, lambda work: asyncio.to_thread(work, self))
    raise InputError(f"stream takes an iterable of tokens, sync or async, not {kind_of(tokens)}")


def stream_async(
    tokens: AsyncIterable[T], arrival: Arrival, run: Callable[[Work], Awaitable[None]]
) -> AsyncSensoryBuffer[T]:
    """The buffer of an `AsyncMemory`, whose threads do the work."""
    if not isinstance(tokens, AsyncIterable):
        raise InputError(
            f"AsyncMemory streams what `async for` reads, not {kind_of(tokens)}; Memory takes both"
        )
    return AsyncSensoryBuffer(tokens, arrival, run)


def read_stream(
    session: str | None,
    text: Callable[[Any], Any] | None,
    every: float,
    said: Mapping[str, Any],
) -> Arrival:
    """Check what a stream's message is given, before a token is read."""
    unknown = said.keys() - StreamFields.__annotations__.keys()
    if unknown:
        raise InputError(
            f"unknown field {min(map(shown, unknown))}; besides tokens, session, text and every, a stream"
            f" takes {', '.join(sorted(StreamFields.__annotations__))}"
        )
    if text is not None and not callable(text):
        raise InputError(f"text must be a function from a chunk to its text, not {kind_of(text)}")
    number = isinstance(every, int | float) and not isinstance(every, bool)
    if not number or not LEAST_EVERY <= every <= MOST_EVERY:
        raise InputError(
            f"every must be a number of seconds from {LEAST_EVERY:g} to {MOST_EVERY:g}, not {shown(every)}"
        )
    metadata = said.get("metadata")
    if isinstance(metadata, Mapping) and MEASURES in metadata:
        raise InputError(f"metadata {MEASURES!r} holds the stream's measures; use another key")
    given = {"role": "assistant", **said, "content": "..."}
    [(message, id_given)] = read_input(given, session, datetime.now(UTC))
    return Arrival(
        message,
        id_given=id_given,
        said_now=said.get("said_at") is None,
        every=float(every),
        text=text,
    )
