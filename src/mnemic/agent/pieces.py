"""The text of a streamed answer, handed from the models' loop to whoever reads it: a thread, or a task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Self

from mnemic.errors import ModelUnavailable
from mnemic.models.llm import GRACE_S, HostedModel, waiting

if TYPE_CHECKING:
    from pydantic_ai.models import Model

Stream = Callable[["Model", Callable[[str], None]], Coroutine[Any, Any, None]]


class _Source:
    """A streamed call, begun when the first piece is asked for."""

    def __init__(self, model: HostedModel, stream: Stream, timeout_s: float) -> None:
        self._model = model
        self._stream = stream
        self._patience = timeout_s + GRACE_S
        self._call: Future[None] | None = None
        self._closed = False

    def _begin(self, put: Callable[[str | None], None]) -> Future[None]:
        """Have each piece put somewhere, and None after the last."""
        call = self._model.start(lambda model: self._stream(model, put))
        call.add_done_callback(lambda _: put(None))
        if self._closed:
            call.cancel()
        return call

    def _raise(self, call: Future[None]) -> None:
        """Raise what ended the call, if it failed."""
        with waiting(self._model.name):
            call.result(0)

    def _late(self) -> ModelUnavailable:
        self._end()
        return ModelUnavailable(f"the language model {self._model.name} took too long")

    def _end(self) -> None:
        self._closed = True
        if self._call is not None:
            self._call.cancel()


class Pieces(_Source):
    """The pieces for a thread. `close`, from any thread, cancels the call."""

    def __init__(self, model: HostedModel, stream: Stream, timeout_s: float) -> None:
        super().__init__(model, stream, timeout_s)
        self._queue: SimpleQueue[str | None] = SimpleQueue()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        if self._call is None:
            self._call = self._begin(self._queue.put)
        try:
            piece = self._queue.get(timeout=self._patience)
        except Empty:
            raise self._late() from None
        if piece is None:
            self._queue.put(None)  # asked again, it ends again
            self._raise(self._call)
            raise StopIteration
        return piece

    def close(self) -> None:
        """Cancel the call, if it isn't over."""
        self._end()


class AsyncPieces(_Source):
    """The pieces for a task of any event loop. `aclose` cancels the call."""

    def __aiter__(self) -> Self:
        self._queue: asyncio.Queue[str | None] = asyncio.Queue()
        return self

    async def __anext__(self) -> str:
        if self._call is None:
            loop = asyncio.get_running_loop()

            def put(piece: str | None) -> None:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(self._queue.put_nowait, piece)

            self._call = self._begin(put)
        try:
            async with asyncio.timeout(self._patience):
                piece = await self._queue.get()
        except TimeoutError:
            raise self._late() from None
        if piece is None:
            self._queue.put_nowait(None)
            self._raise(self._call)
            raise StopAsyncIteration
        return piece

    async def aclose(self) -> None:
        """Cancel the call, if it isn't over."""
        self._end()
