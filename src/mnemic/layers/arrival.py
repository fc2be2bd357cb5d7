"""One stream of tokens as it arrives: its text so far, its measures, and how it gets into the store."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from time import monotonic, perf_counter
from typing import Any
from weakref import ref

from uuid_utils import uuid7

from mnemic.inputs import MAX_TEXT
from mnemic.layers.chunks import checked, readable, text_of
from mnemic.layers.parts import Handle
from mnemic.records import Message, MessageState, Receipt, StreamState, StreamStats
from mnemic.stores.making import MEASURES
from mnemic.stores.streaming import Fate, Heard
from mnemic.timing import Timer
from mnemic.writing.passages import make_passage
from mnemic.writing.remember import receipt_of

# A sign of life comes this often, in seconds, also while no token does.
BEAT = 2.0
# Who ends a stream commits it; after so many seconds the flusher does.
GRACE = 1.0
# How long a reader that leaves a stream waits for what had arrived to be committed, in seconds.
LEAVING = 2.0
MAX_ERROR = 80  # characters
_NEVER = float("inf")


class Arrival:
    """What has arrived of one stream. `message` is what it becomes, but for its text.

    `begin`, `take`, `over` and `leave` are its reader's, and take no lock; what writes holds `lock`.
    """

    def __init__(
        self,
        message: Message,
        *,
        id_given: bool,
        said_now: bool,
        every: float,
        text: Callable[[Any], Any] | None,
    ) -> None:
        self.message = message
        self.key: bytes = uuid7().bytes
        self.lock = threading.Lock()
        self.due_at = _NEVER
        self.done = False
        self.handle: Handle | None = None
        self.reader: ref[Any] | None = None
        self.receipt: Receipt | None = None
        self._id_given, self._said_now, self._every = id_given, said_now, every
        # A plain string needs no look, unless the caller has a function for that.
        self._plain: type | None = str if text is None else None
        self._read = text_of if text is None else checked(text)
        self._pieces: list[str] = []
        self._room = MAX_TEXT
        self._spilled = 0
        self._process = os.getpid()
        self._began: float | None = None
        self._first: float | None = None
        self._ended: float | None = None
        self._error: str | None = None
        self._left = False
        self._kept: SimpleQueue[None] = SimpleQueue()
        self._fate: Fate | None = None
        self._flushing = self._flushed = 0
        self._next_text = self._next_beat = _NEVER

    # --- its reader's ----------------------------------------------------------------------------

    def begin(self) -> None:
        """Take the time: the first token is asked for now."""
        self._process = os.getpid()
        self._began = perf_counter()
        self.due_at = self._next_text = monotonic() + self._every
        if self._said_now:
            self.message = replace(self.message, said_at=datetime.now(UTC))

    def take(self, chunk: Any) -> None:
        """Note the text of a chunk."""
        text = chunk
        if type(chunk) is not self._plain:
            text = self._read(chunk)
        if text:
            if self._first is None:
                self._first = perf_counter()
            self._room -= len(text)
            if self._room >= 0:
                self._pieces.append(text)
            else:
                self._spill(text)

    def over(self, error: BaseException | str | None) -> bool:
        """Note that nothing more comes, and why if it broke off; False where that was known already."""
        if self._ended is not None:
            return False
        if error is not None:
            name = error if isinstance(error, str) else type(error).__name__
            self._error = name[:MAX_ERROR]
        self._ended = perf_counter()
        return True

    def leave(self, *, wait: bool = True) -> None:
        """Let the flusher commit what is over, and wait a moment for that.

        For finalizers: the garbage collector may call one amidst anything, whatever locks this thread has.
        """
        self._left = True
        if self.handle is not None and self.handle._core.flusher.wake() and wait:
            with suppress(Empty):
                self._kept.get(timeout=LEAVING)

    def _spill(self, text: str) -> None:
        """Keep of a text what a message has room for."""
        room = self._room + len(text)
        if room > 0:
            self._pieces.append(text[:room])
        else:
            self._spilled += 1

    # --- what is known of it ---------------------------------------------------------------------

    @property
    def is_mine(self) -> bool:
        """Whether this process reads it; a child that was forked meanwhile doesn't."""
        return os.getpid() == self._process

    @property
    def broke_off(self) -> bool:
        """Whether it ended before its end."""
        return self._error is not None

    @property
    def text(self) -> str:
        """What has arrived, as it is stored."""
        return readable("".join(self._pieces))

    @property
    def state(self) -> StreamState:
        """How it stands."""
        if self._fate == "gone":
            return "forgotten"
        if self._ended is None:
            return "streaming"
        return "complete" if self._error is None else "interrupted"

    @property
    def stats(self) -> StreamStats:
        """The measures, up to now or to the end."""
        if self._began is None:
            return StreamStats(self.state)
        ended, first = self._ended or perf_counter(), self._first
        chunks = len(self._pieces) + self._spilled
        rate = None
        if first is not None and chunks > 1 and ended > first:
            rate = round((chunks - 1) / (ended - first), 1)
        return StreamStats(
            state=self.state,
            chunks=chunks,
            characters=MAX_TEXT - self._room,
            first_token_ms=None if first is None else _ms(first - self._began),
            duration_ms=_ms(ended - self._began),
            chunks_per_second=rate,
            error=self._error,
            cut=self._room < 0,
        )

    # --- the flusher's ---------------------------------------------------------------------------

    def is_left(self) -> bool:
        """Whether it is over, or its reader is gone, and nobody else commits it."""
        if self._ended is None and self.reader is not None and self.reader() is None:
            self.over(GeneratorExit())
            self._left = True
        if self._ended is None:
            return False
        return self._left or perf_counter() > self._ended + GRACE

    def heard(self, now: float) -> Heard | None:
        """What is to be written now, if anything; sets when to come again."""
        self.due_at = now + min(self._every, BEAT)
        if self.done or self._ended is not None or self._fate not in (None, "written"):
            return None
        known = self._fate == "written"
        news = now >= self._next_text and len(self._pieces) > self._flushed
        if not news and not (known and now >= self._next_beat):
            return None
        self._flushing = len(self._pieces)
        message = self._message("streaming") if news else self.message
        if news and not message.content.strip():
            return None
        self._next_text, self._next_beat = (
            now + self._every if news else self._next_text,
            now + BEAT,
        )
        assert self.handle is not None
        return Heard(self.handle.scope, self.key, message, known, news)

    def written(self, heard: Heard, fate: Fate) -> None:
        """Note what has become of what was to be written."""
        self._fate = fate
        if heard.news:
            self._flushed = self._flushing

    # --- into the store --------------------------------------------------------------------------

    def finish(self, *, embed: bool = True) -> None:
        """Commit it, unless that is done; raises what `remember` would, and then can be called again."""
        handle = self.handle
        if handle is None:
            return
        with self.lock:
            if self.done or not self.is_mine:
                return
            if self._fate == "gone" or not self.text.strip():
                self.settle()
                return
            timer, writer = Timer(), handle._core.writer()
            with timer.step("read"):
                message = self._message("complete" if self._error is None else "interrupted")
                new = writer.prepare(message, self._id_given)
            known = self._fate in ("written", "recovered")
            with timer.step("commit"):
                done = handle._core.stream_rows.finish(
                    handle.scope, writer.known, self.key, new, known, make_passage
                )
            if done is None:
                self._fate = "gone"
            else:
                self.receipt = receipt_of([new], done, "the vectors follow", timer)
            self.settle()
        if done is not None and embed:
            self.receipt = receipt_of([new], done, writer.embed(handle.scope, done, timer), timer)

    def settle(self) -> None:
        """Note that nothing is left to do for it."""
        self.done = True
        if self.handle is not None:
            self.handle._core.flusher.unwatch(self.key)
        self._kept.put(None)

    def _message(self, state: MessageState) -> Message:
        measures = asdict(self.stats)
        del measures["state"]
        if not measures["cut"]:
            del measures["cut"]
        kept = {name: value for name, value in measures.items() if value is not None}
        return replace(
            self.message,
            content=self.text,
            recorded_at=datetime.now(UTC),
            state=state,
            metadata={**self.message.metadata, MEASURES: kept},
        )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
