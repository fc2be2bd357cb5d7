"""Who is using a database's connections just now, so that closing and forking can wait for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Counts those who are inside; shut, it lets nobody else in, and tells when all have left."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._inside = 0
        self._shut = False

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Be inside; waits while the gate is shut."""
        with self._changed:
            while self._shut:
                self._changed.wait()
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                if self._shut:
                    self._changed.notify_all()

    def shut(self, patience: float) -> bool:
        """Let nobody in until `open`; False where someone is still inside after so many seconds."""
        with self._changed:
            self._shut = True
            return self._changed.wait_for(lambda: not self._inside, patience)

    def open(self) -> None:
        """Let everybody in again."""
        with self._changed:
            self._shut = False
            self._changed.notify_all()
