"""Who is using a database's connections just now, so that closing and forking can wait for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Knows who is inside; shut, it lets nobody else in, and tells when all have left.

    All is kept in sets of tokens, not in counts, so that an interrupt between two steps leaves none wrong.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._inside: set[object] = set()
        self._shut: set[object] = set()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Be inside; waits while the gate is shut."""
        token = object()
        try:
            with self._changed:
                while self._shut:
                    self._changed.wait()
                self._inside.add(token)
            yield
        finally:
            with self._changed:
                self._inside.discard(token)
                if self._shut:
                    self._changed.notify_all()

    def shut(self, why: object, patience: float) -> bool:
        """Let nobody in until `open`; False where someone is still inside after so many seconds."""
        with self._changed:
            self._shut.add(why)
            return self._changed.wait_for(lambda: not self._inside, patience)

    def open(self, why: object) -> None:
        """Let everybody in again, unless it was also shut for another reason. May come twice."""
        with self._changed:
            self._shut.discard(why)
            self._changed.notify_all()
