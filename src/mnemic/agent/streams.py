"""An answer as it comes: the pieces to read, and the reply that they become."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

from mnemic.agent.pieces import AsyncPieces, Pieces
from mnemic.agent.reply import Reply
from mnemic.agent.turn import Turn
from mnemic.context.result import Context
from mnemic.layers.sensory import AsyncSensoryBuffer, SensoryBuffer

B = TypeVar("B", bound="SensoryBuffer[str] | AsyncSensoryBuffer[str]")


class _Stream(Generic[B]):
    """What both kinds of stream show."""

    def __init__(self, turn: Turn, buffer: B) -> None:
        self._turn = turn
        self._buffer = buffer

    @property
    def text(self) -> str:
        """What has come so far."""
        return self._buffer.text

    @property
    def context(self) -> Context:
        """What the model was handed."""
        return self._turn.context

    @property
    def reply(self) -> Reply:
        """The reply: as it is so far, or, when the stream has ended, as it is kept."""
        buffer = self._buffer
        return self._turn.reply(buffer.text, receipt=buffer.receipt, stats=buffer.stats)


class ReplyStream(_Stream[SensoryBuffer[str]]):
    """An answer that is being given. Iterate it once for its text; use it in a `with` block.

    When it ends it is remembered; when it breaks off or is left early, what came is remembered too,
    marked as interrupted, and the model is told to stop. Raises `ModelError` where the model fails.
    """

    def __init__(self, turn: Turn, buffer: SensoryBuffer[str], pieces: Pieces) -> None:
        super().__init__(turn, buffer)
        self._pieces = pieces

    def __iter__(self) -> Iterator[str]:
        return self._read(iter(self._buffer))

    def _read(self, reading: Iterator[str]) -> Generator[str, None, None]:
        try:
            yield from reading
        finally:
            self._pieces.close()

    def close(self) -> None:
        """End it now: what has come is kept as interrupted; may be called from another thread."""
        self._pieces.close()
        self._buffer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._buffer.__exit__(kind, error, trace)
        self._pieces.close()


class AsyncReplyStream(_Stream[AsyncSensoryBuffer[str]]):
    """`ReplyStream` for `async for`, in an `async with` block."""

    def __init__(self, turn: Turn, buffer: AsyncSensoryBuffer[str], pieces: AsyncPieces) -> None:
        super().__init__(turn, buffer)
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[str]:
        return self._read(aiter(self._buffer))

    async def _read(self, reading: AsyncIterator[str]) -> AsyncGenerator[str, None]:
        try:
            async for piece in reading:
                yield piece
        finally:
            await self._pieces.aclose()

    async def aclose(self) -> None:
        """End it now: what has come is kept as interrupted."""
        await self._pieces.aclose()
        await self._buffer.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._buffer.__aexit__(kind, error, trace)
        await self._pieces.aclose()
