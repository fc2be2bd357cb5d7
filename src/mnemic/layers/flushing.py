"""Writing down what has arrived of streams, now and then, from one thread a memory: no token waits for it.

A stream that nobody reads any more, and didn't end, is ended here.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from queue import Empty, SimpleQueue
from time import monotonic

from mnemic.errors import MnemicError, StoreClosed, StoreError
from mnemic.forking import renew_in_child
from mnemic.layers.arrival import Arrival
from mnemic.stores.streaming import StreamRows

# How long closing waits for what is under way, in seconds.
PATIENCE = 10.0
# Between two tries to commit a stream that was left, in seconds.
AGAIN = 1.0


class Flusher:
    """The streams of one open memory, and the thread that keeps what has arrived of them.

    It is started by the first stream and ended by `close`. Nothing here is called by a token.
    """

    def __init__(self, rows: StreamRows) -> None:
        self._rows = rows
        self._closed = False
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Begin without a thread; in a child process too, where what streams is the parent's."""
        self._lock = threading.Lock()
        # What wakes the thread. `put` may be called by a finalizer, whatever this thread is amidst.
        self._calls: SimpleQueue[bool] = SimpleQueue()
        self._watched: dict[bytes, Arrival] = {}
        self._thread: threading.Thread | None = None
        self._ending: dict[bytes, threading.Thread] = {}

    def watch(self, arrival: Arrival) -> None:
        """Keep what arrives of a stream from now on."""
        with self._lock:
            if self._closed:
                raise StoreClosed("this memory was closed; open it again with Memory(...)")
            self._watched[arrival.key] = arrival
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, args=(self._calls,), name="mnemic-streams", daemon=True
                )
                self._thread.start()
        self._calls.put(True)

    def unwatch(self, key: bytes) -> None:
        """Let go of a stream for which nothing is left to do."""
        self._watched.pop(key, None)

    def wake(self) -> bool:
        """Have what was left committed now; False where there is no use in waiting. Takes no lock."""
        if self._closed or self._thread is None:
            return False
        self._calls.put(True)
        return threading.current_thread() is not self._thread

    def close(self, *, wait: bool = False) -> None:
        """End the thread, and every stream: what has arrived is committed as interrupted.

        With `wait`, the thread has ended when this returns; where nothing streams it will in a moment.
        """
        with self._lock:
            closed, self._closed = self._closed, True
            thread, left = self._thread, list(self._watched.values())
        if closed or thread is None:
            return
        self._calls.put(False)
        if (wait or left) and thread is not threading.current_thread():
            thread.join(PATIENCE)
        for ending in list(self._ending.values()):
            ending.join(PATIENCE)
        for arrival in left:
            arrival.over("MemoryClosed")
            with suppress(MnemicError):  # what was flushed is recovered when its lease has run out
                arrival.finish(embed=False)
        self._watched.clear()

    def _run(self, calls: SimpleQueue[bool]) -> None:
        while True:
            pause = self._round()
            with suppress(Empty):
                if not calls.get(timeout=pause):
                    return

    def _round(self) -> float | None:
        """Do what is due; returns the seconds until something is again."""
        due: list[Arrival] = []
        for arrival in list(self._watched.values()):
            if arrival.is_left():
                self._end(arrival)
            elif arrival.due_at <= monotonic():
                due.append(arrival)
        self._flush(due)
        times = [arrival.due_at for arrival in list(self._watched.values())]
        return max(0.0, min(times) - monotonic()) if times else None

    def _flush(self, due: Sequence[Arrival]) -> None:
        """Write what has arrived of some streams, all in one transaction."""
        with ExitStack() as held:
            writing = []
            for arrival in due:
                # One that is being committed just now needs no flush.
                if arrival.lock.acquire(blocking=False):
                    held.callback(arrival.lock.release)
                    heard = arrival.heard(monotonic())
                    if heard is not None:
                        writing.append((arrival, heard))
            if writing:
                with suppress(StoreError):  # it is tried again when it is due again
                    fates = self._rows.write([heard for _, heard in writing])
                    for (arrival, heard), fate in zip(writing, fates, strict=True):
                        arrival.written(heard, fate)

    def _end(self, arrival: Arrival) -> None:
        """Commit a stream that was left, in a thread of its own: its vectors may take a while."""
        arrival.due_at = monotonic() + AGAIN
        if arrival.key not in self._ending:
            ending = threading.Thread(
                target=self._finish, args=(arrival,), name="mnemic-stream-end", daemon=True
            )
            self._ending[arrival.key] = ending
            ending.start()

    def _finish(self, arrival: Arrival) -> None:
        try:
            arrival.finish()
        except StoreError:
            pass  # tried again a moment later, for as long as the memory is open
        except MnemicError:
            arrival.settle()  # a retry wouldn't help
        finally:
            self._ending.pop(arrival.key, None)
