"""Who is using a database's connections just now, so that closing and forking can wait for them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep

# Between two looks, in seconds. Only closing and forking wait, and who comes meanwhile.
_PAUSE = 0.001


class Gate:
    """Knows who is inside; shut, it lets nobody else in, and tells when all have left.

    An interrupt (Ctrl-C) may come anywhere and must leave nothing locked or miscounted. So there is a bare
    lock (a `Condition` is Python: an interrupt on the way into one leaves it held), and sets of
    tokens in place of counts.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: set[object] = set()
        self._shut: set[object] = set()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Be inside; waits while the gate is shut."""
        token = object()
        try:
            while not self._let_in(token):
                sleep(_PAUSE)
            yield
        finally:
            with self._lock:
                self._inside.discard(token)

    def is_alone(self) -> bool:
        """Tell whether nobody else is inside than the one who asks."""
        return len(self._inside) <= 1

    def shut(self, why: object, patience: float) -> bool:
        """Let nobody in until `open`; False where someone is still inside after so many seconds."""
        until = monotonic() + patience
        with self._lock:
            self._shut.add(why)
        while True:
            with self._lock:
                if not self._inside:
                    return True
            if monotonic() > until:
                return False
            sleep(_PAUSE)

    def open(self, why: object) -> None:
        """Let everybody in again, unless it was also shut for another reason. May come twice."""
        with self._lock:
            self._shut.discard(why)

    def _let_in(self, token: object) -> bool:
        with self._lock:
            if not self._shut:
                self._inside.add(token)
        return token in self._inside
