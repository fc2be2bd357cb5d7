"""Sensory memory: a buffer around a model's token stream, which keeps the reply also if it breaks off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypedDict, TypeVar, Unpack, overload

from mnemic.errors import InputError
from mnemic.inputs import kind_of, shown
from mnemic.layers.arrival import Arrival
from mnemic.layers.buffers import AsyncSensoryBuffer, SensoryBuffer, Work
from mnemic.layers.parts import Handle
from mnemic.records import Role
from mnemic.stores.making import MEASURES
from mnemic.writing.messages import read_input

__all__ = [
    "AsyncSensoryBuffer",
    "SensoryBuffer",
    "StreamFields",
    "read_stream",
    "stream",
    "stream_async",
]

# Seconds between two flushes.
LEAST_EVERY, MOST_EVERY = 0.05, 60.0
ROOM_FOR_MEASURES = 400  # characters of JSON, the name of an error among them

T = TypeVar("T")


class StreamFields(TypedDict, total=False):
    """What the message that a stream becomes may be given: fields that `remember` takes."""

    role: Role
    name: str
    id: str
    said_at: datetime | str | float
    expires_at: datetime | str | float
    tags: Sequence[str]
    metadata: Mapping[str, Any]


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
    tokens: AsyncIterable[T],
    arrival: Arrival,
    run: Callable[[Work], Awaitable[None]],
    handle: Handle | None,
) -> AsyncSensoryBuffer[T]:
    """The buffer of an `AsyncMemory`, whose threads do the work; `handle` is there if that is open."""
    if not isinstance(tokens, AsyncIterable):
        raise InputError(
            f"AsyncMemory streams what `async for` reads, not {kind_of(tokens)}; Memory takes both"
        )
    arrival.handle = handle
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
    given = {"role": "assistant", **said, "content": "..."}
    metadata = said.get("metadata")
    if metadata is None or isinstance(metadata, Mapping):
        if metadata and MEASURES in metadata:
            raise InputError(f"metadata {MEASURES!r} holds the stream's measures; use another key")
        # What is checked has room for the measures, which take its place.
        given["metadata"] = {**(metadata or {}), MEASURES: " " * ROOM_FOR_MEASURES}
    [(message, id_given)] = read_input(given, session, datetime.now(UTC))
    return Arrival(
        message,
        id_given=id_given,
        said_now=said.get("said_at") is None,
        every=float(every),
        text=text,
    )
